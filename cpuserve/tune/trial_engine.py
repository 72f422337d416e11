"""Runs a trial without HTTP: loops over the pipeline in processes seated as workers are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cpuserve.machine.files import format_cpulist
from cpuserve.machine.launch import relaunch_environment
from cpuserve.machine.seat_checks import check_seats
from cpuserve.measuring.engine_load import SeatProcesses
from cpuserve.measuring.load_window import LoadWindow, busy_s, ours_s, tree_cpu_s, unique_mib
from cpuserve.tune.mapped_libraries import mapped_libraries
from cpuserve.tune.trial_setup import TrialSetup

__all__ = ["EngineTrial", "engine_trial"]


class EngineTrial:
    """Seated processes that have loaded the models of a point.

    Args:
        seats: the processes.
    """

    def __init__(self, seats: SeatProcesses) -> None:
        self._seats = seats

    def window(self, _number: int, seconds: float) -> LoadWindow:
        """Run all processes for so many seconds.

        Raises:
            CpuserveError: one has ended.
        """
        machine, ours, used, began = busy_s(), ours_s(), self._cpu_s(), time.perf_counter()
        loop = self._seats.loop(seconds)
        wall, used = time.perf_counter() - began, self._cpu_s() - used
        return LoadWindow(
            requests=loop.images,
            offered_s=loop.seconds,
            seconds=loop.seconds,
            statuses={"200": loop.images},
            latencies_ms=loop.latencies_ms,
            client_cpu_s=0.0,
            foreign_cpu_s=max(0.0, busy_s() - machine - used - (ours_s() - ours)),
            wall_s=wall,
            server_cpu_s=used,
            unique_mib=sum(unique_mib(pid) for pid in self._seats.pids),
        )

    def facts(self) -> dict[str, Any]:
        """What the kernel and OpenVINO say is in force."""
        report = check_seats(dict(zip(self._seats.seats, self._seats.pids, strict=True)))
        return {
            "workers": len(self._seats.seats),
            "placement": {
                "level": report.level,
                "seats": [
                    {"cpus": format_cpulist(seat.cpus), "node": seat.node, "threads": seat.threads}
                    for seat in self._seats.seats
                ],
                "findings": [one.text for one in report.findings if one.level != "green"],
            },
            "properties": {name: dict(found) for name, found in self._seats.properties.items()},
            **mapped_libraries(self._seats.pids),
        }

    def _cpu_s(self) -> float:
        return sum(tree_cpu_s(pid) for pid in self._seats.pids)


@contextmanager
def engine_trial(setup: TrialSetup) -> Iterator[EngineTrial]:
    """Start the processes of a point's seats, which end with the context.

    Raises:
        CpuserveError: one does not load; the message has its last words.
    """
    environ = setup.environment(with_settings=False)
    environ = relaunch_environment(setup.settings.get("allocator", "none"), {}, environ) or environ
    with TemporaryDirectory(prefix="cpuserve-tune-") as folder:
        log = Path(folder) / "log"
        with SeatProcesses(setup.turns, setup.flags, None, setup.files, environ=environ, log=log) as seats:
            yield EngineTrial(seats)
