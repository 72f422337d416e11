"""From a model file of any framework to a published version of the repository."""
