"""Follows the rollouts of a worker's models: reads them where they are declared and chooses by them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.models.rollout import NO_ROLLOUT, Rollout, read_rollout_file
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.shadow import Shadow, ShadowThread, key_of
from cpuserve.serving.shadow_counters import MOST_SHADOWS
from cpuserve.serving.statistics import Recorder
from cpuserve.serving.version_choice import VersionChoice
from cpuserve.serving.version_loader import ModelState
from cpuserve.settings import Settings

__all__ = ["Rollouts", "is_busy", "shown_labels", "shown_versions"]

_log = logging.getLogger("cpuserve.rollouts")


def is_busy(whole: Recorder, models: Mapping[str, Mapping[int, ModelState]]) -> bool:
    """Whether a worker has requests of clients.

    Args:
        whole: counts those that wait for a thread.
        models: count those that are inside them.
    """
    states = (model for versions in models.values() for model in versions.values())
    inside = (one.pipeline.recorder.now("in_flight") for one in states if one.pipeline)
    return whole.now("queue_depth") > 0 or any(inside)


class Rollouts:
    """The rollouts of one worker's models.

    Attributes:
        choices: by model, of those that have a rollout.

        shadow_counters: what the shadows of all workers have found.

    Args:
        control: what the workers tell each other.
        row: this worker's.
        busy: whether this worker has requests of clients.
    """

    def __init__(self, control: ReloadControl, row: int, busy: Callable[[], bool]) -> None:
        self.choices: dict[str, VersionChoice] = {}
        self.shadow_counters = control.shadows
        self._asked = control.rollouts
        self._row = row
        self._shadow_thread = ShadowThread(busy)
        self._wrong: dict[str, str] = {}

    def read(self, name: str, home: Path, settings: Settings) -> Rollout:
        """The rollout that is wanted now; while it is wrong, the one before.

        Each key counts where it is found first: in the config of the latest load, in the file beside the
        versions, in the settings.

        Args:
            name: of the model.
            home: the directory of its versions.
            settings: as they hold for it.
        """
        try:
            over: Mapping[str, Any] = read_rollout_file(home)
            where = str(home / "rollout.json")
            if text := self._asked.get(name):
                over, where = {**over, **json.loads(text)}, f"{where} and the config of the latest load"
            found = Rollout.of(settings, over, where)
        except UsageError as error:
            self._wrong[name] = f"the rollout stays as it was: {error}"
            return self.choices[name].rollout if name in self.choices else NO_ROLLOUT
        self._wrong.pop(name, None)
        return found

    def follow(
        self,
        models: Mapping[str, Mapping[int, ModelState]],
        home: Callable[[str], Path],
        settings: Settings,
    ) -> None:
        """Choose anew for all models among what is loaded, so that no canary waits for another model's load.

        Args:
            models: the versions that are known, by model and number.
            home: the directory of a model's versions.
            settings: the settings in force.
        """
        for name, versions in models.items():
            self.choose(name, self.read(name, home(name), settings.for_model(name, {})), versions)

    def choose(self, name: str, rollout: Rollout, versions: Mapping[int, ModelState]) -> None:
        """Choose which versions answer from now on.

        Args:
            name: of the model.
            rollout: what is wanted.
            versions: of the model, by number.
        """
        if rollout == NO_ROLLOUT:
            if name in self.choices:
                self.choices = {key: choice for key, choice in self.choices.items() if key != name}
            return
        before = self.choices.get(name)
        choice = VersionChoice.of(rollout, versions, {} if before is None else before.labels)
        shadow = self._shadow(name, choice, versions, None if before is None else before.shadow)
        self.choices = {**self.choices, name: replace(choice, shadow=shadow)}

    def _shadow(
        self,
        name: str,
        choice: VersionChoice,
        versions: Mapping[int, ModelState],
        before: Shadow | None,
    ) -> Shadow | None:
        """The shadow of a model: the one before, as long as its versions and its share are the same."""
        wanted = choice.rollout.shadow
        number = choice.rollout.number(wanted)
        stable = None if choice.default is None else choice.default.pipeline
        if wanted is None or number is None:
            return None
        candidate = versions[number].pipeline if number in versions else None
        if stable is None or candidate is None or candidate is stable:
            return None
        if before is not None:
            same = before.stable is stable and before.candidate is candidate
            if same and before.share == wanted.share:
                return before
        cell = self.shadow_counters.cell(self._row, key_of(stable, candidate))
        if cell is None:
            _log.error("model %s has no shadow: %d models had one, the limit of a server", name, MOST_SHADOWS)
            return None
        return Shadow(stable, candidate, wanted.share, cell, self._shadow_thread)

    def labels(self, name: str) -> Mapping[str, int]:
        """Version of a model by label."""
        choice = self.choices.get(name)
        return {} if choice is None else choice.labels

    def texts(self, name: str) -> dict[str, str]:
        """Labels, canary and shadow in force as JSON, by the names of their settings; not those not set."""
        choice = self.choices.get(name)
        if choice is None:
            return {}
        rollout = choice.rollout
        found: dict[str, Any] = {"version_labels": dict(choice.labels)} if choice.labels else {}
        for key, candidate in (("canary", rollout.canary), ("shadow", rollout.shadow)):
            if candidate is not None:
                found[key] = {"version": rollout.number(candidate), "share": candidate.share}
        return {key: json.dumps(value) for key, value in found.items()}

    def problem(self, name: str) -> str:
        """What of a model's rollout cannot be had; empty where all can."""
        choice = self.choices.get(name)
        wrong = self._wrong.get(name)
        return "; ".join([*([wrong] if wrong else []), *(() if choice is None else choice.problems)])


def shown_labels(labels: Mapping[str, int]) -> str:
    """The labels of a model, for messages."""
    if not labels:
        return "it has no labels (setting version_labels)"
    return f"the labels are: {', '.join(f'{label} (version {labels[label]})' for label in sorted(labels))}"


def shown_versions(versions: Iterable[int], labels: Mapping[str, int]) -> str:
    """The versions that are served, and their labels if there are any, for messages."""
    there = f"the versions served are: {', '.join(map(str, sorted(versions)))}"
    return f"{there}; {shown_labels(labels)}" if labels else there
