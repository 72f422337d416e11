"""What ``cpuserve tune`` is asked for and what it answers; it searches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cpuserve.tune.objective import Objective, Standing
from cpuserve.tune.search import SearchLimits
from cpuserve.tune.space import Space
from cpuserve.tune.trial import Trial

__all__ = ["TrialLevel", "TuningRequest", "TuningResult"]

TrialLevel = Literal["engine", "http"]


@dataclass(frozen=True)
class TuningRequest:
    """What is to be tuned, and how.

    Attributes:
        models: names in the repository; several are served together and share the machine.
        repository: where they are.
        tuning_dir: where presets and trials are kept.
        objective: what is best.
        limits: how long it may take.
        mode: one of `cpuserve.tune.strategies.MODES`.
        level: ``http`` measures a server, ``engine`` its pipeline without HTTP.
        mix: requests for each model in turn.
        images: directory of pictures; None for a made one.
        precisions: that may be tried.
        command: as it was typed.
    """

    models: tuple[str, ...]
    repository: Path
    tuning_dir: Path
    objective: Objective
    limits: SearchLimits
    mode: str = "auto"
    level: TrialLevel = "http"
    mix: tuple[int, ...] = ()
    images: Path | None = None
    precisions: tuple[str, ...] = ("auto",)
    command: str = ""


@dataclass(frozen=True)
class TuningResult:
    """What was found.

    Attributes:
        request: what was asked for.
        mode: the strategy that was used.
        space: what could have been tried.
        trials: all, those of earlier runs too.
        best: the point to use.
        runner_up: the next best one, if two worked.
        default: what the defaults do, over all their trials.
        drift: from the first to the last trial of the defaults, as a share of the score; None with one only.
        presets: files written; none where no point keeps the constraints.
        trials_file: where the trials are.
        notes: what to tell.
    """

    request: TuningRequest
    mode: str
    space: Space
    trials: Sequence[Trial]
    best: Standing
    runner_up: Standing | None
    default: Standing
    drift: float | None
    presets: tuple[Path, ...]
    trials_file: Path
    notes: Sequence[str] = field(default=())

    @property
    def gain(self) -> float:
        """How much better than the defaults it is, as a share of the score."""
        return self.best.score / self.default.score - 1 if self.default.score else 0.0

    @property
    def within_noise(self) -> bool:
        """Whether the best and the defaults cannot be told apart."""
        same = self.best.point == self.default.point
        return same or self.request.objective.tie(self.best, self.default)

    @property
    def hints(self) -> dict[str, Standing]:
        """What the points that OpenVINO's hints chose do, by the hint's name, as far as they worked."""
        standings = {one.point: one for one in self.request.objective.standings(self.trials)}
        return {
            trial.reason.removeprefix("hint:"): standings[trial.point]
            for trial in self.trials
            if trial.reason.startswith("hint:") and trial.point in standings
        }

    def document(self) -> dict[str, Any]:
        """For JSON; shares are parts of 1.

        ``models``, ``mix``, ``objective``, ``constraints``, ``level``, ``mode``; ``space`` as
        `Space.document`; ``trials`` and ``failed`` are counts, ``seconds`` what all took; ``best``,
        ``runner_up``, ``default`` and each of ``hints`` (by name) have ``settings``, ``environ``, ``trials``
        (how many), ``noise``, ``excess`` (0: the constraints are kept) and ``figures``; ``gain`` over the
        defaults, ``within_noise`` where that says nothing; ``drift``; ``presets`` and ``trials_file`` are
        paths; ``notes``.
        """
        request = self.request
        return {
            "models": list(request.models),
            "mix": list(request.mix),
            "objective": request.objective.name,
            "constraints": [str(one) for one in request.objective.constraints],
            "level": request.level,
            "mode": self.mode,
            "space": self.space.document(),
            "trials": len(self.trials),
            "failed": sum(trial.figures is None for trial in self.trials),
            "seconds": round(sum(trial.seconds for trial in self.trials), 1),
            "best": self._standing(self.best),
            "runner_up": self._standing(self.runner_up) if self.runner_up else None,
            "default": self._standing(self.default),
            "hints": {name: self._standing(one) for name, one in self.hints.items()},
            "gain": self.gain,
            "within_noise": self.within_noise,
            "drift": self.drift,
            "presets": [str(path) for path in self.presets],
            "trials_file": str(self.trials_file),
            "notes": list(self.notes),
        }

    def _standing(self, one: Standing) -> dict[str, Any]:
        return {
            "settings": one.point.settings(),
            "environ": one.point.environ(),
            "trials": sum(trial.point == one.point for trial in self.trials),
            "noise": one.noise,
            "excess": one.excess,
            "figures": asdict(one.trial.figures) if one.trial.figures else None,
        }
