"""Energy counters of RAPL, from written trees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cpuserve.machine.power import EnergySample


def zone(root: Path, name: str, kind: str, microjoules: int | str, most: int = 262_143_328_850) -> None:
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")


def test_processors_and_memory_are_added_and_nothing_twice(tmp_path: Path) -> None:
    zones = {
        "intel-rapl:0": ("package-0", 40),
        "intel-rapl:1": ("package-1", 60),
        "intel-rapl:0:0": ("core", 30),
        "intel-rapl:0:1": ("dram", 5),
        "intel-rapl:2": ("psys", 500),
        "intel-rapl-mmio:0": ("package-0", 40),
    }
    for name, (kind, _) in zones.items():
        zone(tmp_path, name, kind, 1_000_000)
    before = EnergySample.take(tmp_path)
    assert before is not None
    for name, (kind, joules) in zones.items():
        zone(tmp_path, name, kind, 1_000_000 + joules * 1_000_000)
    after = EnergySample.take(tmp_path)
    assert after is not None
    after = replace(after, at=before.at + 2)
    assert after.watts_since(before) == pytest.approx((40 + 60 + 5) / 2)


def test_a_counter_that_began_anew(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, most=10_000_000)
    before = EnergySample.take(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 2_000_000, most=10_000_000)
    after = EnergySample.take(tmp_path)
    assert before is not None
    assert after is not None
    assert replace(after, at=before.at + 1).watts_since(before) == pytest.approx(3)


def test_no_counters_and_counters_of_root_alone(tmp_path: Path) -> None:
    assert EnergySample.take(tmp_path) is None
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()  # as if it could not be read
    assert EnergySample.take(tmp_path) is None
