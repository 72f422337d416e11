"""Points (combinations of settings), the figures measured with them, and trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Figures", "Knob", "Point", "Trial"]

Knob = str | int | float | bool


@dataclass(frozen=True)
class Point:
    """Settings by name; a setting that is absent has its default.

    Names are those of `cpuserve.settings` (``workers``, ``cores_per_worker``, ``threads``, ``max_batch``,
    ``precision``...); ``env.NAME`` is an environment variable of the worker (``env.OMP_NUM_THREADS``).

    Attributes:
        knobs: sorted by name, so that equal points are equal and hash alike.
    """

    knobs: tuple[tuple[str, Knob], ...] = ()

    @classmethod
    def of(cls, knobs: Mapping[str, Knob]) -> Point:
        """The point of these settings."""
        return cls(tuple(sorted(knobs.items())))

    def __getitem__(self, name: str) -> Knob:
        return dict(self.knobs)[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A setting's value, or ``default`` if the point does not set it."""
        return dict(self.knobs).get(name, default)

    def settings(self) -> dict[str, Knob]:
        """The knobs that are settings of the server."""
        return {name: value for name, value in self.knobs if not name.startswith("env.")}

    def environ(self) -> dict[str, str]:
        """The knobs that are environment variables of the workers."""
        return {name[4:]: str(value) for name, value in self.knobs if name.startswith("env.")}


@dataclass(frozen=True)
class Figures:
    """The figures of one trial.

    Attributes:
        images_per_s: answered images a second.
        p50_ms: median latency of a request.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        cpu_ms: CPU milliseconds of the process tree an image.
        rss_mib: memory of the process tree at its highest.
        noise: spread of the last windows' throughput, (highest - lowest) / median.
        foreign_cores: CPU used by others meanwhile, in cores.
        windows: how many windows count.
        repeated: windows that were spoiled and measured again.
        stable: whether the last three windows agreed within 10 %.
        facts: what was read back: placement, OpenVINO's properties in force, OpenMP runtimes that are mapped.
    """

    images_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float
    rss_mib: float
    noise: float
    foreign_cores: float = 0.0
    windows: int = 1
    repeated: int = 0
    stable: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One measurement of one point.

    Attributes:
        number: in order, from 0.
        point: what was set.
        reason: why it was tried: ``default``, ``hint:THROUGHPUT``, ``hint:LATENCY``, ``search`` or
            ``default-again``.
        figures: None when it failed.
        error: why it failed.
        seconds: how long it took, the start of its processes included.
    """

    number: int
    point: Point
    reason: str
    figures: Figures | None
    error: str = ""
    seconds: float = 0.0
