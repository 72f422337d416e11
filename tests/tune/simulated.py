"""A machine that is made up, whose best settings are known: it shows whether a search finds them.

The cost model. A point's throughput is the peak times factors of at most 1, each about one quantity that
follows from the settings and that hardware has an opinion on; x is the distance from the injected optimum in
doublings of that quantity:

=====================  =====================================================  ==========================
quantity               stands for                                             factor
=====================  =====================================================  ==========================
cores with a seat      idle cores against shared memory bandwidth             1 - 0.25 x below, 0.1 x above
cores a seat           copies of the weights against shared caches            exp(-0.03 x^2)
inference of the seat  CPUs left to decoding                                  exp(-0.04 x^2)
threads a stream       Amdahl's serial part and barriers against waiting      exp(-0.05 x^2)
rows in flight         streams x batch: activations against a cache           1 - 0.02 x below, 0.06 x above
serving a stream       threads that decode while others infer                 exp(-0.03 x^2)
SMT                    sharing a core's units, worse with barriers            0.95, 0.92 with wide streams
pinning, waiting       scheduler; batches that fill                           0.98; 1 - 0.02 a step
shared weights         hand-over to streams against shared caches             0.97
=====================  =====================================================  ==========================

The quantities depend on several settings at once, so the best value of one setting depends on the others,
and rules cut the space across these valleys. A second summit of 92 % of the height stands at another place,
and each point is up to 1.5 % lower than that by a hash of its name: what no model explains. Each measurement
then has Gaussian noise. Parameters are made up; the order of the effects is that of the published ones.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from typing import Any

from cpuserve.tune.machine_facts import MachineFacts
from cpuserve.tune.space import Space
from cpuserve.tune.trial import Figures, Point

__all__ = ["TWO_SOCKETS", "SimulatedMachine"]

TWO_SOCKETS = MachineFacts(cores=(32, 32), cpus=128, threads=128, workers=8, seat_cores=8)
"""2 sockets of 32 cores with SMT."""

_SECOND_SUMMIT = 0.92
_RUGGED = 0.015


class SimulatedMachine:
    """Measures points of a space in no time.

    Attributes:
        optimum: the injected best point.

    Args:
        space: the points there are.
        seed: draws the optimum, the second summit and the noise.
        noise: standard deviation of a measurement, as a share.
        peak: images a second at the optimum.
    """

    def __init__(self, space: Space, seed: int, noise: float = 0.01, peak: float = 10_000.0) -> None:
        dice = random.Random(seed)  # noqa: S311  # a repeatable draw, no secret
        self._space, self._seed, self._noise, self._peak = space, seed, noise, peak
        self._dice = dice
        points = list(space.points)
        self.optimum, self._second = dice.sample(points, 2)

    def true(self, point: Point) -> float:
        """Images a second without noise."""
        if point == self.optimum:
            return self._peak
        summits = ((self.optimum, 1.0), (self._second, _SECOND_SUMMIT))
        height = max(share * self._closeness(point, summit) for summit, share in summits)
        digest = hashlib.sha256(f"{self._seed} {point!r}".encode()).digest()
        return self._peak * height * (1 - _RUGGED * digest[0] / 256)

    def __call__(self, point: Point) -> Figures:
        """Measure a point."""
        values = self._space.full(point)
        rate = self.true(point) * max(0.5, self._dice.gauss(1.0, self._noise))
        clients = 2 * values["workers"] * values["threads"]
        threads = values["workers"] * max(values["inference_threads"], values["threads"])
        return Figures(
            images_per_s=rate,
            p50_ms=1000 * clients / rate,  # Little's law, a closed loop
            p95_ms=1200 * clients / rate,
            p99_ms=1500 * clients / rate,
            cpu_ms=1000 * min(threads, self._space.facts.cpus) / rate,
            rss_mib=self._space.facts.memory_mib(values["workers"], values["max_batch"]),
            noise=2 * self._noise,
            windows=3,
        )

    def _closeness(self, point: Point, summit: Point) -> float:
        here, there = self._space.full(point), self._space.full(summit)
        ours, theirs = _quantities(here), _quantities(there)
        away = {name: math.log2(ours[name] / theirs[name]) for name in ours}
        smt = here["use_logical_core"] == there["use_logical_core"]
        wide = here["inference_threads"] > here["streams"]
        factors = (
            1 - (0.25 if away["cores"] < 0 else 0.1) * abs(away["cores"]),
            math.exp(-0.03 * away["seat"] ** 2),
            math.exp(-0.04 * away["share"] ** 2),
            math.exp(-0.05 * away["width"] ** 2),
            1 - (0.02 if away["rows"] < 0 else 0.06) * min(8.0, abs(away["rows"])),
            math.exp(-0.03 * away["serving"] ** 2),
            1.0 if smt else 0.92 if wide else 0.95,
            1.0 if here["enable_cpu_pinning"] == there["enable_cpu_pinning"] else 0.98,
            1.0 if here["share_weights"] == there["share_weights"] else 0.97,
            1 - 0.02 * abs(self._step(here) - self._step(there)),
        )
        return math.prod(factors)

    def _step(self, values: Mapping[str, Any]) -> int:
        return self._space.values["max_queue_delay_us"].index(values["max_queue_delay_us"])


def _quantities(values: Mapping[str, Any]) -> dict[str, float]:
    seat = values["cores_per_worker"] * (2 if values["use_logical_core"] else 1)
    return {
        "cores": values["workers"] * values["cores_per_worker"],
        "seat": values["cores_per_worker"],
        "share": values["inference_threads"] / seat,
        "width": values["inference_threads"] / values["streams"],
        "rows": values["streams"] * values["max_batch"],
        "serving": values["threads"] / values["streams"],
    }
