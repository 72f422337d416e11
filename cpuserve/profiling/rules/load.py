"""Rules about the load: too much or too little, refused requests, and the cost of watching."""

from __future__ import annotations

from cpuserve.profiling.finding import Case, ProfileFinding, percent, rule

__all__ = ["RULES"]

_QUEUES = 0.5  # of the latency
_BUSY = 0.85
_IDLE = 0.6
_REFUSED = 0.01  # of the requests
_OVERHEAD = 0.05  # of the throughput


@rule("overloaded", "client", "queue_size")
def overloaded(case: Case) -> ProfileFinding | None:
    """Latency is mostly queueing, on a server that is busy all the time: more load than it can carry."""
    latency, capacity = case.summary.latency, case.summary.utilisation
    queued = latency.stage("queue", "batch_wait")
    share = queued / latency.mean_ms if latency.mean_ms else 0.0
    top = capacity.resources[0]
    if share < _QUEUES or top.busy_share < _BUSY:
        return None
    if case.own_load:
        return ProfileFinding(
            "low",
            f"the load of this profile fills the server: {queued:.1f} of {latency.mean_ms:.1f} ms "
            f"({percent(share)}) are waiting, which says nothing of your clients",
            "profile",
            "profile your own load with --pid or --url, or send less with --concurrency",
        )
    return ProfileFinding(
        "medium",
        f"most of the latency is queueing: {queued:.1f} of {latency.mean_ms:.1f} ms ({percent(share)}), "
        f"since {capacity.rate:.0f} requests/s are all that the {top.name} carry ({percent(top.busy_share)} "
        f"busy, {capacity.in_flight:.0f} requests inside)",
        "queue_size",
        "more clients only wait longer: send less, remove what other findings name, add machines, or lower "
        "queue_size and deadline_ms so that what cannot be answered in time is refused at once",
    )


@rule("idle", "client")
def idle(case: Case) -> ProfileFinding | None:
    """Nothing of the server is busy: the load is what limits the throughput."""
    capacity = case.summary.utilisation
    top = capacity.resources[0]
    if not case.summary.latency.requests:
        text = "the server idles: it answered no request while it was watched"
    elif top.busy_share >= _IDLE:
        return None
    else:
        text = (
            f"the server idles: its busiest part, the {top.name}, works {percent(top.busy_share)} of the "
            f"time at {capacity.rate:.0f} requests/s"
        )
    if case.own_load:
        change = "ask for more with --concurrency to see what limits it"
        return ProfileFinding("low", text, "profile", change)
    return ProfileFinding(
        "low", text, "client", "more load, or more connections at once, is answered without waiting longer"
    )


@rule("refusals", "queue_size", "deadline_ms")
def refusals(case: Case) -> ProfileFinding | None:
    """Requests are refused because too many wait, or because their time is over."""
    requests = case.recording.requests
    full = sum(request.status == 503 for request in requests)
    late = sum(request.status == 504 for request in requests)
    share = (full + late) / len(requests) if requests else 0.0
    if share < _REFUSED:
        return None
    setting = "queue_size" if full >= late else "deadline_ms"
    if case.own_load:
        setting = "profile"
    return ProfileFinding(
        "medium",
        f"requests are refused: {percent(share)} of {len(requests)}, {full} of them for a full queue (503), "
        f"{late} because their time was over (504)",
        setting,
        "the load is above what is carried; "
        + (
            "send less with --concurrency"
            if case.own_load
            else f"raise {setting} only if its peaks are short"
        ),
    )


@rule("observers", "profile")
def observers(case: Case) -> ProfileFinding | None:
    """Watching costs so much that the figures are of another server."""
    share = float(case.recording.overhead.get("share") or 0.0)
    noise = float(case.recording.overhead.get("noise") or 0.0)
    if share <= max(_OVERHEAD, noise):
        return None
    return ProfileFinding(
        "low",
        f"watching disturbed the server: it cost {percent(share)} of the throughput, so shares hold, but "
        "absolute figures are too low",
        "profile",
        "watch with fewer observers, or sample stacks less often",
    )


RULES = (overloaded, idle, refusals, observers)
