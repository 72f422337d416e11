"""Computes how many machines a rate of pictures takes, and what a million pictures costs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from cpuserve.errors import UsageError

__all__ = ["Capacity", "Demand", "capacity"]

_MILLION = 1_000_000
_HOUR_S = 3600
_JOULES_A_KWH = 3_600_000


@dataclass(frozen=True)
class Demand:
    """What is wanted.

    Attributes:
        rate: pictures a second at the peak; None is as many as one machine carries.
        load: share of what a machine can do that it is given at the peak, 0 to 1.
        spare: machines that may be missing at the peak.
        price_per_hour: of one machine; None leaves the cost out.
        watts: of one machine at that load; None leaves the energy out.
        price_per_kwh: of electricity; None leaves its cost out.
    """

    rate: float | None = None
    load: float = 0.6
    spare: int = 1
    price_per_hour: float | None = None
    watts: float | None = None
    price_per_kwh: float | None = None


@dataclass(frozen=True)
class Capacity:
    """What it takes.

    Attributes:
        images_per_s: that one machine can do.
        given_per_s: that it is given at the peak.
        machines: how many, the spare ones included; None without a rate.
        load_without_spare: of each machine at the peak when the spare ones are missing; None without a rate.
        machine_hours_per_million: of work at that load.
        cost_per_million: of the machines, in the currency of the price; idle hours are not in it.
        joules_per_image: of one machine.
        kwh_per_million: the same.
        energy_cost_per_million: of electricity.
    """

    images_per_s: float
    given_per_s: float
    machines: int | None
    load_without_spare: float | None
    machine_hours_per_million: float
    cost_per_million: float | None
    joules_per_image: float | None
    kwh_per_million: float | None
    energy_cost_per_million: float | None

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON."""
        return asdict(self)


def capacity(images_per_s: float, demand: Demand) -> Capacity:
    """Compute what a demand takes.

    Args:
        images_per_s: that one machine can do, as `cpuserve tune` or `cpuserve bench` measured it.
        demand: what is wanted.

    Raises:
        UsageError: a number makes no sense.
    """
    if images_per_s <= 0:
        raise UsageError(f"images a second: {images_per_s:g} is not above 0")
    if not 0 < demand.load <= 1:
        raise UsageError(f"--load {demand.load:g}: write a share above 0, up to 1")
    given = images_per_s * demand.load
    hours = _MILLION / given / _HOUR_S
    machines = alone = None
    if demand.rate is not None:
        # rounding of a quotient that is a whole number must not add a machine
        needed = max(1, math.ceil(round(demand.rate / given, 9)))
        machines = needed + demand.spare
        alone = demand.rate / (needed * images_per_s)
    joules = None if demand.watts is None else demand.watts / given
    kwh = None if joules is None else joules * _MILLION / _JOULES_A_KWH
    return Capacity(
        images_per_s=images_per_s,
        given_per_s=given,
        machines=machines,
        load_without_spare=alone,
        machine_hours_per_million=hours,
        cost_per_million=None if demand.price_per_hour is None else hours * demand.price_per_hour,
        joules_per_image=joules,
        kwh_per_million=kwh,
        energy_cost_per_million=(
            None if kwh is None or demand.price_per_kwh is None else kwh * demand.price_per_kwh
        ),
    )
