"""The settings in force: those of the server and of models in one object, and what is known of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from cpuserve.errors import UsageError
from cpuserve.settings.model_settings import ModelSettings
from cpuserve.settings.server_settings import ServerSettings
from cpuserve.settings.setting import Group, Setting, described

__all__ = ["SETTINGS", "Settings"]


@dataclass(frozen=True)
class Settings(ModelSettings, ServerSettings):
    """The settings in force.

    Attributes:
        models: per-model settings from the settings file and the ``config.json``, by model name.
        own_models: those of the settings file alone, once a ``config.json`` has been read.
        tuned: per-model settings from presets, by model name.
        origin: where each value came from ("--port", "CPUSERVE_PORT", "cpuserve.toml", "preset").
        only: names of the models that the command line asks for; empty for all.
        notes: sentences for the user about names that will be removed.
    """

    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own_models: Mapping[str, Mapping[str, Any]] | None = None
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def for_model(self, name: str, metadata: Mapping[str, Any]) -> Settings:
        """These settings as they hold for one model.

        Args:
            name: the model.
            metadata: what the model's own metadata asks for, by setting; empty values do not count.
        """
        changes: dict[str, Any] = {}
        origin = dict(self.origin)
        for setting in SETTINGS.values():
            if not setting.per_model:
                continue
            source = self.origin.get(setting.name, "default")
            if source.startswith(("--", "CPUSERVE_")):
                continue
            if setting.name in self.models.get(name, {}):
                changes[setting.name] = self.models[name][setting.name]
                origin[setting.name] = f"models.{name}"
            elif source == "default" and setting.name in self.tuned.get(name, {}):
                changes[setting.name] = self.tuned[name][setting.name]
                origin[setting.name] = "preset"
            elif source == "default" and metadata.get(setting.name):
                changes[setting.name] = setting.parse(metadata[setting.name], f"metadata of {name}")
                origin[setting.name] = "metadata"
        return dataclasses.replace(self, **changes, origin=origin)

    def to_json(self) -> dict[str, Any]:
        """All fields, fit for JSON and for `from_json`; paths are absolute."""
        fields = dataclasses.asdict(self)
        return {
            name: str(value.absolute()) if isinstance(value, Path) else value
            for name, value in fields.items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Settings:
        """The settings that `to_json` wrote.

        Raises:
            UsageError: another version of cpuserve wrote them.
        """
        if set(content) != {field.name for field in dataclasses.fields(cls)}:
            raise UsageError("these are the settings of another version of cpuserve: use that version")
        parsed = {
            name: setting.parse(content[name], "settings in force")
            for name, setting in SETTINGS.items()
            if content[name] is not None
        }
        words = {name: tuple(content[name]) for name in ("only", "notes")}
        return cls(**{**content, **parsed, **words})


_HINTS = get_type_hints(Settings)
_GROUPS = list(Group)
SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in sorted(
        (
            described(one, _HINTS[one.name])
            for one in dataclasses.fields(Settings)
            if "setting" in one.metadata
        ),
        key=lambda setting: _GROUPS.index(setting.group),
    )
}
"""What is known of each setting, by name, in the order of the help."""
