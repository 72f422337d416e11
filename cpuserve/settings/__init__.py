"""The settings: `Settings` declares each one once, `load` finds their values.

Precedence: command line > environment (``CPUSERVE_NAME``) > settings file (TOML) > preset > a model's own
metadata (``decode``, ``precision``) > default.
"""

from cpuserve.settings.setting import Group, Setting
from cpuserve.settings.settings import SETTINGS, Settings
from cpuserve.settings.sources import load, with_new_names

__all__ = ["SETTINGS", "Group", "Setting", "Settings", "load", "with_new_names"]
