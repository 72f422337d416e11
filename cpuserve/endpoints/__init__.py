"""Servers of one model: which there are, which may be asked now, and when one is tried again."""
