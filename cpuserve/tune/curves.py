"""Selects trials for plots: the Pareto front, and figures over one setting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from cpuserve.tune.objective import ObjectiveMetric
from cpuserve.tune.trial import Figures, Knob, Point, Trial

__all__ = ["Curve", "CurvePoint", "batch_curve", "cores_curve", "cores_per_worker", "front"]

_ENOUGH = 3  # values with everything else alike; with fewer the best of all values tell more
_SEAT = ("cores_per_worker", "workers", "threads")  # how the machine is cut: they change together


@dataclass(frozen=True)
class CurvePoint:
    """One point of a curve.

    Attributes:
        x: the setting's value.
        trial: the number of the best trial with this value.
        figures: its figures.
    """

    x: float
    trial: int
    figures: Figures


@dataclass(frozen=True)
class Curve:
    """Figures over one setting.

    Attributes:
        spots: in ascending order.
        alike: whether all other settings are equal along the curve; else each point is the best of its value.
    """

    spots: tuple[CurvePoint, ...] = ()
    alike: bool = True


def front(trials: Sequence[Trial]) -> list[int]:
    """Numbers of the trials on the Pareto front of throughput and p99, lowest p99 first.

    A trial is beaten by one that is as good in both figures and better in one.
    """
    measured = [(trial.number, trial.figures) for trial in trials if trial.figures is not None]
    measured.sort(key=lambda one: (one[1].p99_ms, -one[1].images_per_s))
    kept: list[int] = []
    best = 0.0
    for number, figures in measured:
        if figures.images_per_s > best:
            kept.append(number)
            best = figures.images_per_s
    return kept


def batch_curve(trials: Sequence[Trial], chosen: Point, default: Knob, metric: ObjectiveMetric) -> Curve:
    """Figures over ``max_batch``.

    Args:
        trials: all trials.
        chosen: the settings whose neighbours are preferred.
        default: the batch of a point that does not set it.
        metric: the figure that decides which of several trials is best.
    """
    return _curve(
        trials, chosen, lambda trial: float(trial.point.get("max_batch", default)), ("max_batch",), metric
    )


def cores_curve(trials: Sequence[Trial], chosen: Point, cores: int, metric: ObjectiveMetric) -> Curve:
    """Figures of the whole machine over the cores of one worker.

    Compare "Deep learning inference service optimization on CPU" (Lei Zhang, Feng Dong and
    others, iQIYI and Intel, 2019), which found small batches to gain less and less from more cores in one
    service and took 8 to 16 of them. There are always as many workers as the machine has room for.

    Args:
        trials: all trials.
        chosen: the settings whose neighbours are preferred.
        cores: usable cores of the machine.
        metric: the figure that decides which of several trials is best.
    """
    filling = [trial for trial in trials if _fills(trial, cores)]
    return _curve(filling, chosen, lambda trial: cores_per_worker(trial, cores), _SEAT, metric)


def cores_per_worker(trial: Trial, cores: int) -> float | None:
    """Cores of one worker: as set, else an even share of the machine; None if unknown."""
    said = trial.point.get("cores_per_worker")
    if said is not None:
        return float(said)
    seen = (trial.figures.facts if trial.figures else {}).get("workers")
    workers = trial.point.get("workers", seen)
    return None if workers is None else cores / float(workers)


def _fills(trial: Trial, cores: int) -> bool:
    own = cores_per_worker(trial, cores)
    workers = trial.point.get("workers")
    return own is not None and (workers is None or float(workers) * own > cores - own)


def _curve(
    trials: Sequence[Trial],
    chosen: Point,
    of: Callable[[Trial], float | None],
    changing: Collection[str],
    metric: ObjectiveMetric,
) -> Curve:
    def rest(point: Point) -> Point:
        return Point(tuple(knob for knob in point.knobs if knob[0] not in changing))

    neighbours = [trial for trial in trials if rest(trial.point) == rest(chosen)]
    alike, found = _best_by(neighbours, of, metric), _best_by(trials, of, metric)
    if len(alike) > 1 and (len(alike) >= _ENOUGH or len(alike) == len(found)):
        return Curve(alike)
    return Curve(found, alike=False) if len(found) > 1 else Curve()


def _best_by(
    trials: Sequence[Trial], of: Callable[[Trial], float | None], metric: ObjectiveMetric
) -> tuple[CurvePoint, ...]:
    best: dict[float, CurvePoint] = {}
    for trial in trials:
        x = of(trial)
        if trial.figures is None or x is None:
            continue
        other = best.get(x)
        if other is None or metric.better(trial.figures, other.figures):
            best[x] = CurvePoint(x, trial.number, trial.figures)
    return tuple(best[x] for x in sorted(best))
