"""Collects what a search found: the best settings, what they are compared with, and the effects of knobs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.tune.curves import Curve, batch_curve, cores_curve, front
from cpuserve.tune.knob_effects import KnobEffects, effects, repeat_noise
from cpuserve.tune.machine_facts import DEFAULT_BATCH
from cpuserve.tune.objective import Objective, Standing
from cpuserve.tune.trial import Point, Trial
from cpuserve.tune.trial_journal import read_trials

__all__ = ["ComparedSettings", "SearchReport", "report_of", "settings_words"]


@dataclass(frozen=True)
class ComparedSettings:
    """Settings that the chosen ones are compared with.

    Attributes:
        name: ``defaults`` or ``OpenVINO's hint NAME``.
        standing: the result of all its trials.
        change: relative change of the objective's figure from these settings to the chosen ones.
        noise: half of both ranges, added, as a share.
        tie: whether the difference is within that noise.
    """

    name: str
    standing: Standing
    change: float
    noise: float
    tie: bool


@dataclass(frozen=True)
class SearchReport:
    """What one search found.

    Attributes:
        model: the model; several joined by " + ".
        machine: fingerprint of the machine.
        objective: what was optimised.
        trials: all trials, in order.
        best: the settings to use; None if no trial worked.
        rivals: the defaults, then the points of the hints, as far as they were measured.
        effects: effects of the knobs, largest first.
        front: numbers of the trials on the Pareto front of throughput and p99.
        batches: figures over max_batch.
        cores: figures of the whole machine over the cores of a worker.
        repeats: the largest difference between measurements of equal settings, as a share.
        openmp: verdicts about OpenMP's variables, as `benchmarks.openmp` wrote them.
    """

    model: str
    machine: str
    objective: Objective
    trials: tuple[Trial, ...]
    best: Standing | None
    rivals: tuple[ComparedSettings, ...]
    effects: tuple[KnobEffects, ...]
    front: tuple[int, ...]
    batches: Curve
    cores: Curve
    repeats: float
    openmp: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(
        cls,
        model: str,
        machine: str,
        objective: Objective,
        trials: Sequence[Trial],
        *,
        cores: int,
        not_tried: Mapping[str, str],
        openmp: Sequence[Mapping[str, Any]] = (),
    ) -> SearchReport:
        """The report of a search.

        Args:
            model: whose settings they are.
            machine: its fingerprint.
            objective: what was optimised.
            trials: all.
            cores: usable cores of the machine.
            not_tried: knobs that no trial set, with the reason.
            openmp: verdicts to show, see the attribute.

        Raises:
            UsageError: there are no trials.
        """
        if not trials:
            raise UsageError(f"no trials of {model} are there to report: run cpuserve tune {model}")
        best, metric = objective.best(trials), objective.metric
        chosen = best.point if best else Point()
        return cls(
            model=model,
            machine=machine,
            objective=objective,
            trials=tuple(trials),
            best=best,
            rivals=() if best is None else tuple(_rivals(trials, objective, best)),
            effects=tuple(_known(effects(trials, metric, not_tried), trials)),
            front=tuple(front(trials)),
            batches=batch_curve(trials, chosen, DEFAULT_BATCH, metric),
            cores=cores_curve(trials, chosen, cores, metric),
            repeats=repeat_noise(trials, metric),
            openmp=tuple(openmp),
        )

    @property
    def drift(self) -> float | None:
        """Change of the defaults from their first to their last measurement; None when measured once."""
        ends = [trial for trial in self.trials if trial.point == Point() and trial.figures is not None]
        if len(ends) < 2:
            return None
        first, last = (self.objective.value(t.figures) for t in (ends[0], ends[-1]) if t.figures)
        return last / first - 1

    def document(self, conclusion: Sequence[str]) -> dict[str, Any]:
        """For JSON.

        Args:
            conclusion: its sentences.
        """
        return {
            "model": self.model,
            "machine": self.machine,
            "objective": self.objective.name,
            "constraints": [str(constraint) for constraint in self.objective.constraints],
            "conclusion": list(conclusion),
            "best": None if self.best is None else _standing(self.best),
            "rivals": [
                {
                    "name": rival.name,
                    "change": rival.change,
                    "noise": rival.noise,
                    "tie": rival.tie,
                    **_standing(rival.standing),
                }
                for rival in self.rivals
            ],
            "drift": self.drift,
            "repeats": self.repeats,
            "effects": [
                {
                    "knob": one.knob,
                    "verdict": one.words,
                    "values": [
                        _without_nan(asdict(value) | {"verdict": value.words}) for value in one.values
                    ],
                }
                for one in self.effects
            ],
            "pareto_front": list(self.front),
            "batch_curve": asdict(self.batches),
            "cores_per_worker_curve": asdict(self.cores),
            "openmp": list(self.openmp),
            "trials": [asdict(trial) | {"point": dict(trial.point.knobs)} for trial in self.trials],
        }


def report_of(file: Path, model: str, openmp: Sequence[Mapping[str, Any]] = ()) -> SearchReport:
    """Read the report of a search from its file of trials.

    Args:
        file: where `cpuserve.tune.trial_journal.TrialJournal` has written.
        model: for the title.
        openmp: verdicts to show.

    Raises:
        UsageError: there is no such file, it is none of a search, or no trial is in it.
    """
    if not file.is_file():
        raise UsageError(
            f"no trials of {model} in {file.parent}: run cpuserve tune {model.replace('+', ' ')}"
        )
    recorded = read_trials(file)
    key = recorded.key or {}
    try:
        objective = Objective.parse(key["objective"], key["constraints"])
        machine, cores = str(key["fingerprint"]), int(key["machine"]["cores"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file} does not say what its trials belong to ({error}): tune again") from error
    tried = {name for trial in recorded.trials for name, _ in trial.point.knobs}
    left = dict.fromkeys(recorded.space.get("values", {}), "the search did not come to it")
    not_tried = {**left, **recorded.space.get("not_tried", {})}
    return SearchReport.of(
        model,
        machine,
        objective,
        recorded.trials,
        cores=cores,
        not_tried={knob: why for knob, why in not_tried.items() if knob not in tried},
        openmp=openmp,
    )


def settings_words(point: Point) -> str:
    """``workers=1 streams=2``; the defaults where nothing is set."""
    return " ".join(f"{name.removeprefix('env.')}={value}" for name, value in point.knobs) or "the defaults"


def _known(found: Sequence[KnobEffects], trials: Sequence[Trial]) -> list[KnobEffects]:
    """OpenMP's variables need no trial where no runtime is there to read them."""
    facts = next((t.figures.facts for t in trials if t.figures and "openmp" in t.figures.facts), None)
    if facts is None or facts["openmp"]:
        return list(found)
    words = "no effect, TBB build" if facts.get("tbb") else "no effect: no OpenMP runtime is mapped"
    return [
        replace(one, known=words) if one.knob.startswith("env.") and not one.values else one for one in found
    ]


def _rivals(trials: Sequence[Trial], objective: Objective, best: Standing) -> list[ComparedSettings]:
    by_point = {standing.point: standing for standing in objective.standings(trials)}
    named = {"the defaults": Point()}
    for trial in trials:
        kind, _, hint = trial.reason.partition(":")
        if kind == "hint":
            named[f"OpenVINO's hint {hint}"] = trial.point
    found = []
    for name, point in named.items():
        standing = by_point.get(point)
        if standing is None:
            continue
        ratio = best.score / standing.score
        change = ratio - 1 if objective.metric.more_is_better else 1 / ratio - 1
        noise = (best.noise + standing.noise) / 2
        tie = point == best.point or objective.tie(best, standing)
        found.append(ComparedSettings(name, standing, change, noise, tie))
    return found


def _standing(standing: Standing) -> dict[str, Any]:
    figures = standing.trial.figures
    return {
        "settings": dict(standing.point.knobs),
        "trial": standing.trial.number,
        "figures": None if figures is None else asdict(figures),
        "standing_noise": standing.noise,
        "excess": standing.excess,
    }


def _without_nan(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in fields.items()
    }
