"""Compares two profiles: settings, figures of one request, layers, and findings that are gone or new."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from cpuserve.profiling.cpu_time import KINDS
from cpuserve.profiling.finding import ProfileFinding
from cpuserve.profiling.findings import find
from cpuserve.profiling.recording import Recording
from cpuserve.profiling.summary import Summary, summarise
from cpuserve.serving.stages import STAGE_NAMES

__all__ = ["Difference", "FigureChange", "compare"]


@dataclass(frozen=True)
class FigureChange:
    """One figure of both profiles.

    Attributes:
        name: of the figure.
        unit: of both values.
        before: in the first profile; None where it is not in it.
        after: in the second.
    """

    name: str
    unit: str
    before: float | None
    after: float | None

    @property
    def factor(self) -> float | None:
        """After over before; None where one is missing or 0."""
        return self.after / self.before if self.before and self.after is not None else None

    def within(self, noise: float) -> bool:
        """Whether the change is no larger than the noise, a share of the figure."""
        factor = self.factor
        return factor is not None and factor > 0 and abs(math.log(factor)) <= math.log1p(noise)

    def to_json(self, noise: float) -> dict[str, Any]:
        """Fit for JSON."""
        return {**asdict(self), "factor": self.factor, "within_noise": self.within(noise)}


@dataclass(frozen=True)
class Difference:
    """Two profiles side by side.

    Attributes:
        same_model: whether both are of the same model.
        same_machine: whether both are of the same machine.
        noise: share by which figures of both differ without any change: the noise of each profile, added as
            independent errors are.
        settings: those that differ: before and after by name.
        whole: throughput, latency, accounted share.
        stages: mean milliseconds a request.
        cpu: CPU milliseconds a request, by kind.
        layers: microseconds by layer, the largest change first.
        gone: findings of the first profile only.
        new: findings of the second only.
        kept: rules that found something in both.
    """

    same_model: bool
    same_machine: bool
    noise: float
    settings: dict[str, tuple[Any, Any]]
    whole: tuple[FigureChange, ...]
    stages: tuple[FigureChange, ...]
    cpu: tuple[FigureChange, ...]
    layers: tuple[FigureChange, ...]
    gone: tuple[ProfileFinding, ...]
    new: tuple[ProfileFinding, ...]
    kept: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "same_model": self.same_model,
            "same_machine": self.same_machine,
            "noise": self.noise,
            "settings": {name: list(values) for name, values in self.settings.items()},
            **{
                name: [line.to_json(self.noise) for line in getattr(self, name)]
                for name in ("whole", "stages", "cpu", "layers")
            },
            "gone": [one.to_json() for one in self.gone],
            "new": [one.to_json() for one in self.new],
            "kept": list(self.kept),
        }


def compare(before: Recording, after: Recording) -> Difference:
    """Compare two recordings; times are those of one request, since their loads may differ."""
    sums = summarise(before), summarise(after)
    found = find(before, sums[0]), find(after, sums[1])
    rules = [{one.rule for one in findings} for findings in found]
    names = [*dict.fromkeys((*before.settings, *after.settings))]
    return Difference(
        same_model=before.model == after.model,
        same_machine=before.machine == after.machine,
        noise=math.hypot(_noise(before), _noise(after)),
        settings={
            name: (before.settings.get(name), after.settings.get(name))
            for name in names
            if before.settings.get(name) != after.settings.get(name)
        },
        whole=tuple(_whole(before, after, sums)),
        stages=tuple(_stages(sums)),
        cpu=tuple(_cpu(sums)),
        layers=tuple(_layers(before, after)),
        gone=tuple(one for one in found[0] if one.rule not in rules[1]),
        new=tuple(one for one in found[1] if one.rule not in rules[0]),
        kept=tuple(one.rule for one in found[0] if one.rule in rules[1]),
    )


def _noise(recording: Recording) -> float:
    """How much the speed changed by itself, as a share of it.

    That is the difference between the windows before and after watching, or, under the load of others,
    between the requests of the first and the second half.
    """
    told = recording.overhead.get("noise")
    if told is not None:
        return float(told)
    middle = (recording.began_ns + recording.ended_ns) / 2
    first = sum(request.ended_ns < middle for request in recording.requests)
    whole = len(recording.requests)
    return abs(2 * first - whole) / whole if whole else 0.0


def _whole(before: Recording, after: Recording, sums: tuple[Summary, Summary]) -> list[FigureChange]:
    def said(name: str, sum_name: str) -> FigureChange:
        values = [
            float(recording.load.get(name) or getattr(one.latency, sum_name))
            for recording, one in zip((before, after), sums, strict=True)
        ]
        return FigureChange(name.removesuffix("_ms"), "ms", *values)

    one, two = sums
    return [
        FigureChange("throughput", "requests/s", one.utilisation.rate, two.utilisation.rate),
        FigureChange("images", "1/s", one.utilisation.images_per_s, two.utilisation.images_per_s),
        said("p50_ms", "p50_ms"),
        said("p99_ms", "p99_ms"),
        FigureChange("accounted for", "share", one.accounted_share, two.accounted_share),
    ]


def _stages(sums: tuple[Summary, Summary]) -> list[FigureChange]:
    one, two = ({stage.name: stage.mean_ms for stage in each.latency.stages} for each in sums)
    return [
        FigureChange(name, "ms", one.get(name), two.get(name))
        for name in STAGE_NAMES
        if name in one or name in two
    ]


def _cpu(sums: tuple[Summary, Summary]) -> list[FigureChange]:
    def each(one: Summary) -> dict[str, float]:
        answered = one.utilisation.rate * one.window.seconds
        return {kind: 1000 * getattr(one.cpu, kind) / answered for kind in KINDS} if answered else {}

    one, two = map(each, sums)
    return [
        FigureChange(kind, "CPU-ms", one.get(kind), two.get(kind))
        for kind in KINDS
        if one.get(kind) or two.get(kind)
    ]


def _layers(before: Recording, after: Recording) -> list[FigureChange]:
    """By name; the plugin gives several layers the same one now and then."""
    one, two = _by_name(before), _by_name(after)
    lines = [FigureChange(name, "us", one.get(name), two.get(name)) for name in dict.fromkeys((*one, *two))]
    return sorted(lines, key=lambda line: -abs((line.after or 0.0) - (line.before or 0.0)))


def _by_name(recording: Recording) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    for layer in recording.layers:
        spent[layer.name] += layer.mean_us
    return spent
