"""Reads how much energy the processors take, by RAPL's counters below /sys/class/powercap."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpuserve.machine.files import read_int, read_text

__all__ = ["EnergySample"]

_ZONES = "sys/class/powercap"


@dataclass(frozen=True)
class EnergySample:
    """The energy counters of all processors and their memory at one moment.

    Attributes:
        at: when, in seconds of a clock that never goes back.
        microjoules: counter of each zone, by name.
        ranges: at which each of them begins from 0 again.
    """

    at: float
    microjoules: Mapping[str, int]
    ranges: Mapping[str, int]

    @classmethod
    def take(cls, root: Path = Path("/")) -> EnergySample | None:
        """Read the counters; None where the kernel has none, or lets only root read them.

        A zone inside a processor counts a part of it and is left out, but for memory, which is beside it.
        """
        counts, ranges = {}, {}
        for zone in sorted((root / _ZONES).glob("intel-rapl:*")):
            name = read_text(zone / "name") or ""
            count = read_int(zone / "energy_uj")
            outer = zone.name.count(":") == 1 and not name.startswith("psys")
            if count is not None and (outer or name == "dram"):
                counts[zone.name] = count
                ranges[zone.name] = read_int(zone / "max_energy_range_uj") or 0
        return cls(time.monotonic(), counts, ranges) if counts else None

    def watts_since(self, earlier: EnergySample) -> float:
        """Mean power since an earlier sample, in watts; a counter that began anew meanwhile is put right."""
        taken = 0
        for name in self.microjoules.keys() & earlier.microjoules.keys():
            change = self.microjoules[name] - earlier.microjoules[name]
            taken += change if change >= 0 else change + self.ranges[name]
        return taken / 1e6 / max(1e-9, self.at - earlier.at)
