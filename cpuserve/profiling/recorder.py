"""Records a server under the load it has, or under a load from here, with and without observers."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.measuring.load_window import Load, LoadWindow, Target, measure_window, percentile
from cpuserve.profiling.observers import Observed, Observers
from cpuserve.profiling.recording import Recording

__all__ = ["DrivenLoad", "record", "record_under_load"]

Step = Callable[[str], None]
"""Is called with what happens next, for a progress bar."""

_WARM_S = 1.0


@dataclass(frozen=True)
class DrivenLoad:
    """The load that is sent while a profile is taken.

    Attributes:
        target: the server's address and path.
        pictures: sent in turn.
        name: of the pictures.
        load: how much is asked.
        made_up: whether the picture was generated, since none was given.
    """

    target: Target
    pictures: Sequence[Path]
    name: str
    load: Load
    made_up: bool = False


def record(observers: Observers, model: str, seconds: float, step: Step) -> Recording:
    """Record a server under the load it has.

    Args:
        observers: not started yet.
        model: its name; empty for all of the server.
        seconds: how long.
        step: is called with what happens next.
    """
    observers.start()
    step(f"watching for {seconds:g} s")
    time.sleep(seconds)
    seen = observers.stop()
    recording = _recording(seen, model, (seen.began_ns, seen.ended_ns))
    cpus = (seen.placement.get("budget") or {}).get("effective") or 1
    share = seen.cpu_s / ((seen.ended_ns - seen.began_ns) / 1e9) / cpus
    how = "CPU time of the observers outside of the server, of the CPUs it may use; the load is another's"
    return replace(recording, overhead={"cpu_share": share, "how": how})


def record_under_load(
    observers: Observers, model: str, seconds: float, driven: DrivenLoad, step: Step
) -> Recording:
    """Record a server under load, and half as long before and after without observers, to tell their cost.

    Args:
        observers: not started yet.
        model: its name.
        seconds: how long it is watched.
        driven: the load.
        step: is called with what happens next.

    Raises:
        CpuserveError: the load failed.
    """

    def window(long: float) -> LoadWindow:
        return measure_window(driven.target, driven.pictures, driven.load, seconds=long)

    step("warming")
    window(_WARM_S)
    step(f"{seconds / 2:g} s without observers")
    before = window(seconds / 2)
    observers.start()
    step(f"{seconds:g} s with observers")
    watched = window(seconds)
    seen = observers.stop()
    step(f"{seconds / 2:g} s without observers")
    after = window(seconds / 2)
    times = [time for one in seen.requests for time in (one.arrived_ns, one.ended_ns)]
    span = (min(times), max(times)) if times else (seen.began_ns, seen.ended_ns)
    recording = _recording(seen, model, span)
    return replace(recording, load=_load(watched, driven), overhead=_overhead(before, watched, after, seen))


def _recording(seen: Observed, model: str, span: tuple[int, int]) -> Recording:
    return Recording(
        model=model,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short,
        seconds=(span[1] - span[0]) / 1e9,
        began_ns=span[0],
        ended_ns=span[1],
        placement=seen.placement,
        requests=seen.requests,
        batches=seen.batches,
        threads=seen.threads,
        stacks=seen.stacks,
        throttling=seen.throttling,
        missing=seen.missing,
    )


def _load(window: LoadWindow, driven: DrivenLoad) -> dict[str, Any]:
    latencies = window.latencies_ms
    asked = driven.load
    return {
        "what": f"{asked.rate:g} requests a second" if asked.rate else f"{asked.connections} clients in turn",
        "own": True,
        "made_up": driven.made_up,
        "sent": driven.name,
        "path": driven.target.path,
        "rate": window.per_s,
        "mean_ms": sum(latencies) / len(latencies) if latencies else None,
        "p50_ms": percentile(latencies, 50),
        "p99_ms": percentile(latencies, 99),
        "client_cores": window.client_cpu_s / window.seconds,
        "foreign_cores": window.foreign_cpu_s / window.wall_s,
        "statuses": dict(window.statuses),
    }


def _overhead(before: LoadWindow, watched: LoadWindow, after: LoadWindow, seen: Observed) -> dict[str, Any]:
    """What the observers cost: requests a second, and CPU time a request."""
    off = LoadWindow.sum([before, after])
    found: dict[str, Any] = {
        "share": 1 - watched.per_s / off.per_s if off.per_s else None,
        "rate_off": off.per_s,
        "rate_on": watched.per_s,
        "noise": abs(before.per_s - after.per_s) / off.per_s if off.per_s else None,
        "observers_cpu_s": seen.cpu_s,
        "how": "requests a second with observers against those just before and after without; "
        "noise is the difference of these two",
    }
    if off.cpu_ms and watched.cpu_ms:
        watching_ms = 1000 * seen.cpu_s / len(watched.latencies_ms)
        found["cpu_share"] = (watched.cpu_ms + watching_ms) / off.cpu_ms - 1
        found["how"] += "; cpu_share is CPU time a request, the observers' own added, beyond that without"
    return found
