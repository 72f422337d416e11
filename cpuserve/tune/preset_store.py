"""Keeps presets in files, ROOT/FINGERPRINT/MODEL.json, and finds the one that fits best."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cpuserve.errors import UsageError
from cpuserve.tune.preset import Preset
from cpuserve.tune.preset_key import MACHINE, PresetKey

__all__ = ["MatchKind", "PresetMatch", "PresetStore", "judge", "read_preset"]

MatchKind = Literal["exact", "stale", "nearest", "none"]


@dataclass(frozen=True)
class PresetMatch:
    """The best preset found, and how well it fits.

    Attributes:
        kind: ``exact``; ``stale``, of this machine but of another OpenVINO or another model under the name;
            ``nearest``, of another machine; or ``none``.
        preset: None with ``none``.
        path: its file.
        distance: how much the machines differ (`PresetKey.distance`).
        differs: the differences by name, as pairs of the preset's value and this machine's.
        refused: files that are no presets, with the reason, one sentence each.
    """

    kind: MatchKind
    preset: Preset | None = None
    path: Path | None = None
    distance: float = 0.0
    differs: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


class PresetStore:
    """Presets in a directory, which need not exist.

    Args:
        root: ``tuning`` by default (setting ``tuning_dir``).
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def preset_file(self, fingerprint: str, model: str) -> Path:
        """Where a model's preset is."""
        return self.root / fingerprint / f"{model}.json"

    def trials_file(self, fingerprint: str, model: str) -> Path:
        """Where all trials of its search are, one JSON object a line; who searches writes it."""
        return self.root / fingerprint / f"{model}.trials.jsonl"

    def write(self, preset: Preset) -> Path:
        """Write a preset atomically in place of the model's former one on its machine.

        Raises:
            UsageError: the directory cannot be written to.
        """
        file = self.preset_file(preset.key.fingerprint, preset.model)
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w") as output:
                output.write(json.dumps(preset.to_json(), indent=1) + "\n")
                output.flush()
                os.fsync(output.fileno())
            fresh.rename(file)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink()
            raise UsageError(f"{file} cannot be written ({error.strerror}): see --tuning-dir") from error
        return file

    def files(self, model: str) -> list[Path]:
        """The model's preset files of all machines."""
        return sorted(self.root.glob(f"*/{model}.json"))

    def find(self, model: str, key: PresetKey) -> PresetMatch:
        """The preset that fits best: exact, else of this machine, else of the nearest one.

        Args:
            model: its name.
            key: the key of this machine and the model as it is now.
        """
        found: list[PresetMatch] = []
        refused: list[str] = []
        for file in self.files(model):
            try:
                preset = read_preset(file)
            except UsageError as error:
                refused.append(str(error))
                continue
            if preset.model == model:
                found.append(judge(preset, file, key))
            else:
                refused.append(f"{file} is not used: it is a preset of {preset.model}, not of {model}")
        order = ("exact", "stale", "nearest")
        best = min(found, key=lambda one: (order.index(one.kind), one.distance), default=PresetMatch("none"))
        return PresetMatch(best.kind, best.preset, best.path, best.distance, best.differs, tuple(refused))


def read_preset(file: Path) -> Preset:
    """Read a preset file.

    Raises:
        UsageError: it cannot be read or is none; the message names the file.
    """
    try:
        return Preset.from_json(json.loads(file.read_bytes()))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    except UsageError as error:
        raise UsageError(f"{file} is not used: {error}") from None


def judge(preset: Preset, file: Path, key: PresetKey) -> PresetMatch:
    """Decide how well a preset fits."""
    differs = preset.key.differences(key, preset.model)
    kind: MatchKind = "exact"
    if differs:
        kind = "nearest" if differs.keys() & MACHINE.keys() else "stale"
    return PresetMatch(kind, preset, file, round(preset.key.distance(key), 3), differs)
