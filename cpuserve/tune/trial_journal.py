"""Keeps all trials of a search as JSON lines, each on disk when it is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.measuring.journal import Journal
from cpuserve.tune.trial import Figures, Point, Trial

__all__ = ["RecordedTrials", "TrialJournal", "read_trials"]


@dataclass(frozen=True)
class RecordedTrials:
    """The contents of a file of trials.

    Attributes:
        key: what they belong to; None where not even the first line is whole.
        space: what could have been tried, as `Space.document` says it; empty where it is not said.
        trials: in order.
    """

    key: dict[str, Any] | None = None
    space: Mapping[str, Any] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()


class TrialJournal:
    """The trials of one search, old and new.

    The first line holds the key that the figures belong to, one line the space, and every other line a trial.

    Attributes:
        file: where they are.
        key: what they belong to.
        space: what could be tried, as it was described; empty until it is.
        trials: in order.
        notes: what to tell about the file: a torn line, another search's file.
    """

    def __init__(self, file: Path, key: Mapping[str, Any]) -> None:
        """Open or create the file.

        A file with another key is renamed and kept. An incomplete last line is dropped.

        Args:
            file: where they are; directories are made.
            key: what the trials belong to, fit for JSON.

        Raises:
            UsageError: the directory cannot be written to, or the file is no such journal.
        """
        self.file = file
        self.key = json.loads(json.dumps(key))
        self.trials: list[Trial] = []
        self.notes: list[str] = []
        self.space: Mapping[str, Any] = {}
        self._by_point: dict[Point, list[Trial]] = {}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}; give another --tuning-dir") from error

    def append(self, trial: Trial) -> None:
        """Append a trial and wait until it is on disk."""
        self._journal.append({"trial": asdict(trial) | {"point": dict(trial.point.knobs)}})
        self._add(trial)

    def describe(self, space: Mapping[str, Any]) -> None:
        """Append the description of the space, unless it is there already."""
        if self.space != json.loads(json.dumps(space)):
            self._journal.append({"space": space})
            self.space = space

    def of(self, point: Point) -> list[Trial]:
        """The trials of one point, in order."""
        return list(self._by_point.get(point, ()))

    @property
    def seconds(self) -> float:
        """What all trials took."""
        return sum(trial.seconds for trial in self.trials)

    def _add(self, trial: Trial) -> None:
        self.trials.append(trial)
        self._by_point.setdefault(trial.point, []).append(trial)

    @property
    def _journal(self) -> Journal:
        return Journal(self.file)

    def _open(self) -> None:
        if self.file.exists():
            if not self.file.read_bytes().endswith(b"\n"):
                self.notes.append(f"{self.file}: the last line is torn, its trial is measured again")
            found = read_trials(self.file)
            key, self.space = found.key, found.space
            if key == self.key:
                for trial in found.trials:
                    self._add(trial)
                if found.trials:
                    self.notes.append(f"{self.file}: going on after {len(found.trials)} trials")
                return
            self.space = {}
            if key is not None:
                kept = _free_name(self.file)
                self.file.rename(kept)
                differs = ", ".join(
                    sorted(k for k in key.keys() | self.key.keys() if key.get(k) != self.key.get(k))
                )
                self.notes.append(f"{self.file} was of another search ({differs}): kept as {kept.name}")
        self._journal.append({"key": self.key})


def read_trials(file: Path) -> RecordedTrials:
    """Read what a `TrialJournal` wrote.

    Raises:
        UsageError: it cannot be read, or is something else.
    """
    try:
        records = Journal(file).read()
        spaces = [record["space"] for record in records if "space" in record]
        trials = tuple(_trial(record["trial"]) for record in records[1:] if "space" not in record)
        return RecordedTrials(records[0]["key"] if records else None, spaces[-1] if spaces else {}, trials)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise UsageError(f"{file} is no journal of trials ({error!s:.80}): move it away") from error


def _trial(record: Mapping[str, Any]) -> Trial:
    figures = record["figures"]
    fields = {**record, "point": Point.of(record["point"]), "figures": figures and Figures(**figures)}
    return Trial(**fields)


def _free_name(file: Path) -> Path:
    number = 1
    while (kept := file.with_name(f"{file.name}.{number}")).exists():
        number += 1
    return kept
