"""Turns model files of any framework into published versions of the repository."""
