"""The space of settings worth a trial on a machine: knobs, their values, and the points that rules leave."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cpuserve.serving.compile_properties import prefers_own_weights
from cpuserve.tune.machine_facts import DEFAULT_BATCH, MachineFacts
from cpuserve.tune.space_rules import RULES, SpaceRule, Values
from cpuserve.tune.trial import Knob, Point

__all__ = ["KNOBS", "Space", "space_digest"]

KNOBS = (
    "workers",
    "cores_per_worker",
    "use_logical_core",
    "inference_threads",
    "streams",
    "share_weights",
    "threads",
    "max_batch",
    "max_queue_delay_us",
    "precision",
    "enable_cpu_pinning",
    "scheduling_core_type",
    "allocator",
    "env.OMP_NUM_THREADS",
    "env.KMP_BLOCKTIME",
    "env.KMP_AFFINITY",
)
"""In the order in which they decide: the rules drop early what later knobs cannot mend."""

_LARGEST_BATCH = 32
_DELAYS_US = (0.0, 500.0, 2000.0)
_CORE_TYPES = (None, "pcore_only", "ecore_only")
_BLOCKTIMES = (None, 0, 1, "infinite")
_AFFINITIES = (None, "granularity=fine,compact,1,0", "disabled")
_FIXED: Mapping[str, Any] = {
    "use_logical_core": False,
    "max_batch": DEFAULT_BATCH,
    "max_queue_delay_us": 0.0,
    "precision": "auto",
    "enable_cpu_pinning": False,
    "scheduling_core_type": None,
    "allocator": "none",
    "env.OMP_NUM_THREADS": None,
    "env.KMP_BLOCKTIME": None,
    "env.KMP_AFFINITY": None,
}

Steps = tuple[int, ...]
"""The place of each knob's value among the knob's values, in the order of `KNOBS`."""


@dataclass(frozen=True)
class Space:
    """All points worth a trial.

    Attributes:
        facts: what they are for.
        values: values of each knob, ascending where they are numbers.
        points: by point, where it lies; ``Point()``, the defaults, is always among them.
        total: how many there would be without rules.
        dropped: how many points each rule has dropped, by its name; a point counts for one rule only.
    """

    facts: MachineFacts
    values: Mapping[str, tuple[Knob | None, ...]]
    points: Mapping[Point, Steps]
    total: int
    dropped: Mapping[str, int]

    @classmethod
    def of(cls, facts: MachineFacts, precisions: Sequence[str] = ("auto",)) -> Space:
        """The space of a machine and its models.

        Args:
            facts: what is known of both.
            precisions: those that may be tried; another precision gives other answers.
        """
        values = _values(facts, precisions)
        dropped: Counter[str] = Counter()
        points = {_canonical(facts, _defaults(facts)): _steps(values, _defaults(facts))}
        for found in _legal(facts, values, dropped):
            points.setdefault(_canonical(facts, found), _steps(values, found))
        total = math.prod(len(choices) for choices in values.values())
        return cls(facts, values, points, total, {rule.name: dropped[rule.name] for rule in RULES})

    def full(self, point: Point) -> dict[str, Any]:
        """The value of every knob at a point of the space; None where an environment variable is not set."""
        steps = self.points[point]
        return {knob: choices[step] for (knob, choices), step in zip(self.values.items(), steps, strict=True)}

    def canonical(self, point: Point) -> Point:
        """The point without the settings that the server would choose by itself."""
        given = dict(point.knobs)
        if not given.keys() <= self.values.keys():
            return point
        return _canonical(self.facts, _completed(self.facts, given))

    def not_tried(self) -> dict[str, str]:
        """Knobs that no point changes, each with the reason."""
        dropping = [rule for rule in reversed(RULES) if self.dropped[rule.name]]
        why = {knob: rule.why for rule in dropping for knob in rule.knobs}
        fixed = {}
        for place, (knob, choices) in enumerate(self.values.items()):
            if len({steps[place] for steps in self.points.values()}) == 1:
                fixed[knob] = (
                    why.get(knob, "") if len(choices) > 1 else f"{choices[0]} is all there is to try"
                )
        return fixed

    def document(self) -> dict[str, Any]:
        """For JSON: ``total``, ``points``, ``dropped`` by rule, ``values`` and ``not_tried`` by knob."""
        return {
            "total": self.total,
            "points": len(self.points),
            "dropped": dict(self.dropped),
            "values": {knob: list(choices) for knob, choices in self.values.items()},
            "not_tried": self.not_tried(),
        }

    def explain(self) -> list[str]:
        """How many points each rule dropped and why, one line a rule."""
        why = {rule.name: rule.why for rule in RULES}
        lines = [f"{self.total} combinations, {len(self.points)} worth a trial"]
        return lines + [
            f"{name}: {count} dropped. {why[name]}" for name, count in self.dropped.items() if count
        ]


def space_digest(facts: MachineFacts, precisions: Sequence[str]) -> str:
    """A digest of the space that a machine has before the first trial."""
    known = replace(facts, memory_bytes=0, memory_factor=1.0, openmp=())
    text = repr(
        (known, tuple(precisions), sorted(_values(known, precisions).items()), [rule.why for rule in RULES])
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _defaults(facts: MachineFacts) -> dict[str, Any]:
    return _completed(facts, {"workers": facts.workers, "cores_per_worker": facts.seat_cores})


def _completed(facts: MachineFacts, given: Mapping[str, Any]) -> dict[str, Any]:
    """All knobs, those not given as the server chooses them."""
    found = {**_FIXED, **given}
    if "workers" not in given and "cores_per_worker" not in given:
        found |= {"workers": facts.workers, "cores_per_worker": facts.seat_cores}
    elif "workers" not in given:
        found["workers"] = facts.seats_of(given["cores_per_worker"])
    elif "cores_per_worker" not in given:
        found["cores_per_worker"] = max(1, facts.total_cores // given["workers"])
    seat = facts.seat_threads(found["workers"], found["cores_per_worker"], logical=found["use_logical_core"])
    found.setdefault("threads", seat)
    found.setdefault("inference_threads", seat)
    found.setdefault("streams", min(seat, found["inference_threads"]))
    found.setdefault("share_weights", _shared(found))
    return found


def _shared(found: Values) -> bool:
    """Whether streams share their weights where nobody says; a lone stream does in its own way."""
    streams, threads = found["streams"], found["inference_threads"]
    return streams == 1 or not prefers_own_weights(streams, threads, pinned=found["enable_cpu_pinning"])


def _values(facts: MachineFacts, precisions: Sequence[str]) -> dict[str, tuple[Knob | None, ...]]:
    defaults = _defaults(facts)
    cores = {*_powers(facts.cores[0]), *facts.cores, facts.seat_cores}
    workers = {*_powers(facts.total_cores), facts.workers, *(facts.seats_of(count) for count in cores)}
    threads = {*_powers(2 * facts.cores[0] * facts.siblings), *cores, defaults["threads"]}
    values: dict[str, tuple[Knob | None, ...]] = {
        "workers": tuple(sorted(workers)),
        "cores_per_worker": tuple(sorted(cores)),
        "use_logical_core": (False, True),
        "inference_threads": tuple(sorted(threads)),
        "streams": tuple(sorted(threads)),
        "share_weights": (False, True),
        "threads": tuple(sorted(threads)),
        "max_batch": _powers(_LARGEST_BATCH),
        "max_queue_delay_us": _DELAYS_US,
        "precision": tuple(dict.fromkeys(["auto", *precisions])),
        "enable_cpu_pinning": (False, True),
        "scheduling_core_type": _CORE_TYPES,
        "allocator": ("none", *facts.allocators),
        "env.OMP_NUM_THREADS": (None, *_powers(facts.cores[0])),
        "env.KMP_BLOCKTIME": _BLOCKTIMES,
        "env.KMP_AFFINITY": _AFFINITIES,
    }
    return values


def _powers(most: int) -> tuple[int, ...]:
    return tuple(1 << power for power in range(most.bit_length()))


def _legal(
    facts: MachineFacts, values: Mapping[str, tuple[Knob | None, ...]], dropped: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Every combination that no rule drops; a rule is checked as soon as its knobs have values."""
    knobs = list(values)
    due: list[list[SpaceRule]] = [[] for _ in knobs]
    for rule in RULES:
        due[max(knobs.index(knob) for knob in rule.knobs)].append(rule)
    left = [math.prod(len(values[knob]) for knob in knobs[place + 1 :]) for place in range(len(knobs))]
    found: dict[str, Any] = {}

    def deeper(place: int) -> Iterator[dict[str, Any]]:
        knob = knobs[place]
        for value in values[knob]:
            found[knob] = value
            objecting = next((rule for rule in due[place] if not rule.allows(facts, found)), None)
            if objecting is not None:
                dropped[objecting.name] += left[place]
            elif place + 1 < len(knobs):
                yield from deeper(place + 1)
            else:
                yield found

    return deeper(0)


def _steps(values: Mapping[str, tuple[Knob | None, ...]], found: Values) -> Steps:
    return tuple(choices.index(found[knob]) for knob, choices in values.items())


def _canonical(facts: MachineFacts, found: Values) -> Point:
    workers, cores = found["workers"], found["cores_per_worker"]
    layout: dict[str, Any] = {}
    if not (facts.even and (workers, cores) == (facts.workers, facts.seat_cores)):
        layout["workers"] = workers
        if workers * cores != facts.total_cores:  # else so many workers share all cores evenly
            layout["cores_per_worker"] = cores
    implied = _completed(facts, {**layout, "use_logical_core": found["use_logical_core"]})
    implied |= {
        "use_logical_core": False,
        "streams": min(implied["streams"], found["inference_threads"]),
        "share_weights": _shared(found),
    }
    more = {
        knob: value
        for knob, value in found.items()
        if knob not in ("workers", "cores_per_worker") and value is not None and value != implied[knob]
    }
    return Point.of({**layout, **more})
