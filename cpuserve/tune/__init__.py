"""Finds the settings that serve a model best on this machine, keeps them and says why; it serves nothing."""
