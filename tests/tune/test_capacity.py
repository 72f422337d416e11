"""Machines and cost by hand: 500 pictures a second at a load of 0.6 are 300 a machine."""

from __future__ import annotations

import pytest

from cpuserve.errors import UsageError
from cpuserve.tune.capacity import Demand, capacity


def test_machines_for_a_rate() -> None:
    found = capacity(500, Demand(rate=1000))
    assert (found.given_per_s, found.machines) == (300, 5)  # 4 and a spare one
    assert found.load_without_spare == pytest.approx(0.5)
    assert capacity(500, Demand(rate=900)).machines == 4
    assert capacity(500, Demand(rate=900.1)).machines == 5
    assert capacity(500, Demand(rate=1, spare=0)).machines == 1
    assert capacity(100, Demand(rate=3 * 0.1 * 100, load=0.1, spare=0)).machines == 3  # no rounding error
    assert capacity(500, Demand()).machines is None


def test_cost_and_energy_of_a_million() -> None:
    found = capacity(500, Demand(price_per_hour=0.54, watts=150, price_per_kwh=0.3))
    assert found.machine_hours_per_million == pytest.approx(1e6 / 300 / 3600)
    assert found.cost_per_million == pytest.approx(0.5)
    assert found.joules_per_image == pytest.approx(0.5)
    assert found.kwh_per_million == pytest.approx(0.5e6 / 3.6e6)
    assert found.energy_cost_per_million == pytest.approx(0.3 * 0.5e6 / 3.6e6)
    bare = capacity(500, Demand())
    assert (bare.cost_per_million, bare.joules_per_image, bare.energy_cost_per_million) == (None, None, None)


@pytest.mark.parametrize(
    ("speed", "load", "said"),
    [(0, 0.6, "images a second: 0"), (-1, 0.6, "-1"), (500, 0, "--load 0"), (500, 1.5, "--load 1.5")],
)
def test_numbers_that_make_no_sense(speed: float, load: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        capacity(speed, Demand(load=load))
