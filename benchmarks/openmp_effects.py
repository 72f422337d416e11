"""Judges what OpenMP's variables did, by the mapped runtimes first, then by figures.

A variable can do something only where a runtime that reads it is mapped. Its changes are judged round by
round against two servers without it; the noise is the larger of two: the largest difference of those two, in
any round, and half of the range of the changes themselves. Figures from windows in which other programs used
more than half a core are not judged: then only what was read back speaks.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cpuserve.machine.files import parse_cpulist

__all__ = ["AGAIN", "Case", "Change", "Look", "Seen", "Verdict", "judge"]

AGAIN = "(again)"
"""Instead of a variable: the environment without any, a second time."""

_JUDGED = (
    ("one client", "p50_ms", False),
    ("a client a core", "images_per_s", True),
    ("5 requests/s", "cpu_ms", False),
)
_SHRANK = "affinity shrank"
_TITLES = {"p50_ms": "p50", "images_per_s": "images/s", "cpu_ms": "CPU-ms an image"}

Kind = Literal["helps", "harmful", "no effect", "not judged"]

_QUIET_CORES = 0.5


@dataclass(frozen=True)
class Case:
    """A kind of process, and what was set for it.

    Attributes:
        process: its name.
        name: the variable; empty for none.
        value: of the variable.
    """

    process: str
    name: str = ""
    value: str = ""

    @property
    def environment(self) -> str:
        """As it is written in a shell."""
        return f"{self.name}={self.value}" if self.value else self.name


@dataclass(frozen=True)
class Seen:
    """Figures of one window: images/s, median latency, CPU milliseconds an image, cores others used."""

    images_per_s: float
    p50_ms: float
    cpu_ms: float
    foreign_cores: float


@dataclass(frozen=True)
class Look:
    """One server.

    Attributes:
        openmp: file names of the OpenMP runtimes that its worker maps.
        tbb: whether the worker maps oneTBB.
        masks: how many of its threads may run on these CPUs ("0-1").
        cpus: how many CPUs any of them may run on.
        loads: figures by load.
    """

    openmp: tuple[str, ...]
    tbb: bool
    masks: Mapping[str, int]
    cpus: int
    loads: Mapping[str, Seen]

    @property
    def threads(self) -> int:
        """How many threads the worker has."""
        return sum(self.masks.values())

    def document(self) -> dict[str, Any]:
        """For a result file."""
        return asdict(self) | {"threads": self.threads}

    @classmethod
    def from_document(cls, found: Mapping[str, Any]) -> Look:
        """What `document` gave."""
        loads = {name: Seen(**seen) for name, seen in found["loads"].items()}
        return cls(tuple(found["openmp"]), found["tbb"], found["masks"], found["cpus"], loads)


@dataclass(frozen=True)
class Change:
    """What happened to one figure.

    Attributes:
        load: under which load.
        figure: its name.
        change: as a share, the median of the rounds.
        noise: as a share.
        kind: what it means.
    """

    load: str
    figure: str
    change: float
    noise: float
    kind: Kind


@dataclass(frozen=True)
class Verdict:
    """What a variable did to a process.

    Attributes:
        process: its name.
        environment: the variable and its value.
        words: the verdict.
        why: what was read back that explains it; empty when nothing does.
        openmp: file names of the mapped runtimes.
        changes: of the figures.
    """

    process: str
    environment: str
    words: str
    why: str
    openmp: tuple[str, ...]
    changes: tuple[Change, ...]

    def document(self) -> dict[str, Any]:
        """For a result file."""
        return asdict(self)


def judge(looks: Mapping[Case, Sequence[Look]]) -> list[Verdict]:
    """A verdict for each case that sets a variable.

    Args:
        looks: by case, round by round; every process has a case without a variable and one `AGAIN`.
    """
    return [
        _verdict(case, found, looks[Case(case.process)], looks[Case(case.process, AGAIN)])
        for case, found in looks.items()
        if case.value
    ]


def _verdict(case: Case, found: Sequence[Look], plain: Sequence[Look], again: Sequence[Look]) -> Verdict:
    changes = tuple(_change(load, figure, more, found, plain, again) for load, figure, more in _JUDGED)
    telling = [change for change in changes if change.kind in {"helps", "harmful"}]
    facts = _facts(case, found, plain)
    if not found[0].openmp:
        words = "no effect, TBB build" if found[0].tbb else "no effect"
    elif not _read(case.name, found[0].openmp):
        words = "no effect, nobody reads it"
    elif not telling and any(fact.startswith(_SHRANK) for fact in facts):
        words = "harmful"
    elif not telling and any(change.kind == "not judged" for change in changes):
        words = "not judged: other programs were busy"
    elif not telling:
        words = f"no effect (within noise {100 * max(change.noise for change in changes):.0f} %)"
    else:
        parts = [
            f"{kind}: "
            + ", ".join(
                f"{_TITLES[one.figure]} {100 * one.change:+.0f} % ({one.load})"
                for one in telling
                if one.kind == kind
            )
            for kind in ("helps", "harmful")
            if any(one.kind == kind for one in telling)
        ]
        words = "; ".join(parts)
    return Verdict(case.process, case.environment, words, "; ".join(facts), found[0].openmp, changes)


def _change(
    load: str,
    figure: str,
    more: bool,
    found: Sequence[Look],
    plain: Sequence[Look],
    again: Sequence[Look],
) -> Change:
    def values(looks: Sequence[Look]) -> list[float]:
        return [float(getattr(look.loads[load], figure)) for look in looks]

    alike = list(zip(values(plain), values(again), strict=True))
    # both servers without the variable are the measure, so that one bad window does not decide
    ratios = [own / statistics.fmean(pair) for own, pair in zip(values(found), alike, strict=True)]
    noise = max(*(max(pair) / min(pair) - 1 for pair in alike), (max(ratios) - min(ratios)) / 2)
    change = statistics.median(ratios) - 1
    kind: Kind = "no effect"
    if max(look.loads[load].foreign_cores for look in (*found, *plain, *again)) > _QUIET_CORES:
        kind = "not judged"
    elif abs(change) > noise:
        kind = "helps" if (change > 0) == more else "harmful"
    return Change(load, figure, change, noise, kind)


def _read(name: str, openmp: Sequence[str]) -> bool:
    """Whether a runtime reads a variable: libgomp knows none of Intel's."""
    return not name.startswith("KMP_") or any("iomp" in one or "libomp" in one for one in openmp)


def _facts(case: Case, found: Sequence[Look], plain: Sequence[Look]) -> list[str]:
    last, before = found[-1], plain[-1]
    if not last.openmp:
        return ["no OpenMP runtime is mapped"]
    facts = []
    if not _read(case.name, last.openmp):
        facts.append(f"{', '.join(last.openmp)} reads no KMP_ variables")
    narrow = {mask: count for mask, count in last.masks.items() if len(parse_cpulist(mask)) < last.cpus}
    if sum(narrow.values()) > sum(n for m, n in before.masks.items() if len(parse_cpulist(m)) < before.cpus):
        fewest = min(len(parse_cpulist(mask)) for mask in narrow)
        mask = max(narrow, key=lambda mask: narrow[mask])
        facts.append(
            f"{_SHRANK} to {fewest} CPU for {sum(narrow.values())} of {last.threads} threads, "
            f"{narrow[mask]} of them on CPU {mask}"
        )
    if last.cpus < before.cpus:
        facts.append(f"the worker may use {last.cpus} CPU in place of {before.cpus}")
    if last.threads < before.threads:
        facts.append(f"{last.threads} threads in place of {before.threads}")
    return facts
