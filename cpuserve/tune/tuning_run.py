"""Runs ``cpuserve tune``: searches, keeps the trials, and writes the presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from cpuserve.errors import UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.launch import find_library, library_folders
from cpuserve.machine.placement import plan_for_settings
from cpuserve.machine.topology import Topology
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.settings import Settings
from cpuserve.tune.machine_facts import MachineFacts, ModelMemory
from cpuserve.tune.objective import Objective, Standing
from cpuserve.tune.preset import Preset
from cpuserve.tune.preset_key import PresetKey
from cpuserve.tune.preset_store import PresetStore
from cpuserve.tune.search import Search, SearchLimits
from cpuserve.tune.space import Space, space_digest
from cpuserve.tune.strategies import strategy
from cpuserve.tune.trial import Figures, Point, Trial
from cpuserve.tune.trial_journal import TrialJournal

__all__ = ["PointMeasurer", "TrialLevel", "TuningRequest", "TuningResult", "parse_mix", "tune"]

TrialLevel = Literal["engine", "http"]


@dataclass(frozen=True)
class TuningRequest:
    """What to tune, and how.

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
    """What a tuning run found.

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
        """How much better the best is than the defaults, as a share of the score."""
        return self.best.score / self.default.score - 1 if self.default.score else 0.0

    @property
    def within_noise(self) -> bool:
        """Whether the best and the defaults cannot be told apart."""
        same = self.best.point == self.default.point
        return same or self.request.objective.tie(self.best, self.default)

    @property
    def hints(self) -> dict[str, Standing]:
        """The results of the points of OpenVINO's hints, by the hint's name, as far as they worked."""
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


class PointMeasurer(Protocol):
    """What `cpuserve.tune.measurer.Measurer` does, or a fake in tests."""

    def __call__(self, point: Point) -> Figures:
        """Measure a point in fresh processes."""

    def hints(self) -> Mapping[str, Point]:
        """What OpenVINO's hints choose, by the hint's name."""


def tune(
    request: TuningRequest,
    measuring: PointMeasurer,
    *,
    on_start: Callable[[Sequence[str]], None] = lambda _notes: None,
    on_trial: Callable[[Trial, Search], None] = lambda _trial, _search: None,
) -> TuningResult:
    """Search, keep every trial, and write the presets.

    Args:
        request: what is to be tuned.
        measuring: measures points of these models.
        on_start: is called with the notes of the journal before the first trial.
        on_trial: is called with every finished trial, with the search as it stands.

    Raises:
        CpuserveError: a model is not there, the defaults cannot be measured, or nothing can be written.
    """
    files = [Repository(request.repository).find(name) for name in request.models]
    key = PresetKey.read(*files)
    name = "+".join(request.models)
    trials_file = PresetStore(request.tuning_dir).trials_file(key.fingerprint, name)
    facts = _machine_facts(files, request.precisions)
    journal = TrialJournal(trials_file, _journal_key(request, key, space_digest(facts, request.precisions)))
    on_start(journal.notes)
    search = Search(
        measuring, journal, request.objective, request.limits, lambda trial: on_trial(trial, search)
    )
    search.measure_first({})
    space = Space.of(_having_seen(facts, journal.trials), request.precisions)
    journal.describe(space.document())
    reasons = {trial.reason for trial in journal.trials}
    if search.has_room and not {"hint:THROUGHPUT", "hint:LATENCY"} <= reasons:
        search.measure_first({hint: space.canonical(point) for hint, point in measuring.hints().items()})
    mode, chosen = strategy(
        request.mode, space, search.expected_trials, trials_file.with_name(f"{name}.optuna.jsonl")
    )
    search.run(chosen)
    return _outcome(request, mode, space, journal, key)


def parse_mix(text: str | None, models: Sequence[str]) -> tuple[int, ...]:
    """Parse a mix such as ``3:1``, requests for each model in turn; None is one each.

    Raises:
        UsageError: it is not a whole number above 0 for each model.
    """
    if text is None:
        return (1,) * len(models)
    parts = text.split(":")
    if len(parts) != len(models) or not all(part.isdecimal() and 0 < int(part) < 1000 for part in parts):
        raise UsageError(
            f"--mix {text[:40]!r}: give a whole number from 1 to 999 for each of the models ({len(models)}), "
            "as 3:1"
        )
    return tuple(int(part) for part in parts)


def _machine_facts(files: Sequence[ModelFile], precisions: Sequence[str]) -> MachineFacts:
    topology, budget = Topology.read(), Budget.read()
    allocators = [name for name in ("jemalloc", "tcmalloc") if find_library(name, library_folders())]
    return MachineFacts.of(
        topology,
        budget,
        plan_for_settings(topology, budget, Settings()),
        memory_bytes=Fingerprint.read(Path("/"), budget, topology).memory_bytes,
        capabilities=_capabilities() if {*precisions} - {"auto", "f32"} else (),
        allocators=allocators,
        networks=[ModelMemory.of(file) for file in files],
    )


def _capabilities() -> Sequence[str]:
    # OpenVINO is loaded only where a precision depends on it
    from cpuserve.serving.openvino_core import openvino_core  # noqa: PLC0415

    found: list[str] = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def _journal_key(request: TuningRequest, key: PresetKey, space: str) -> dict[str, Any]:
    return {
        **key.to_json(),
        "mix": list(request.mix),
        "objective": request.objective.name,
        "constraints": [str(one) for one in request.objective.constraints],
        "level": request.level,
        "images": str(request.images.resolve()) if request.images else "",
        "space": space,
    }


def _having_seen(facts: MachineFacts, trials: Sequence[Trial]) -> MachineFacts:
    """The facts with what the defaults' first trial has shown of OpenMP and memory."""
    first = next(trial.figures for trial in trials if trial.reason == "default" and trial.figures)
    return facts.with_first_trial(first.facts.get("openmp", ()), first.rss_mib)


def _outcome(
    request: TuningRequest, mode: str, space: Space, journal: TrialJournal, key: PresetKey
) -> TuningResult:
    objective, trials = request.objective, journal.trials
    ranked = objective.standings(trials)
    best = objective.best(trials)
    if best is None:  # the defaults' first trial worked, or `first` would have said so
        raise UsageError(f"{journal.file}: no trial worked")
    runner_up = next((one for one in ranked if one.point != best.point), None)
    default = next(one for one in ranked if one.point == Point())
    alone = [objective.score(t.figures) for t in trials if t.point == Point() and t.figures]
    presets = () if best.excess else _write(request, key, best, runner_up, default)
    return TuningResult(
        request,
        mode,
        space,
        trials,
        best,
        runner_up,
        default,
        alone[-1] / alone[0] - 1 if len(alone) > 1 else None,
        presets,
        journal.file,
        journal.notes,
    )


def _write(
    request: TuningRequest, key: PresetKey, best: Standing, runner_up: Standing | None, default: Standing
) -> tuple[Path, ...]:
    store = PresetStore(request.tuning_dir)
    return tuple(
        store.write(
            Preset.of_trials(
                model,
                key,
                best.trial,
                runner_up=runner_up.trial if runner_up else None,
                default=default.trial,
                models=request.models,
                mix=request.mix,
                objective=request.objective.name,
                constraints=[str(one) for one in request.objective.constraints],
                level=request.level,
                command=request.command,
            )
        )
        for model in request.models
    )
