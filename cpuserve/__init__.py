"""Serve deep-learning vision models on the CPU servers people already own."""

__version__ = "0.1.0"
