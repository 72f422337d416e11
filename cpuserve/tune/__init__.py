"""Finds the settings that serve models best on this machine, keeps them as presets and explains them."""
