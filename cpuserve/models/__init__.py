"""What a server reads of a model: the repository, versions, the card, cut parts and OVMS configuration."""
