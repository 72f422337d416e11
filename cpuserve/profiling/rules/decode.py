"""Rules about decoding: too few threads for it, or pictures larger than the model needs."""

from __future__ import annotations

from cpuserve.profiling.finding import Case, ProfileFinding, percent, rule

__all__ = ["RULES"]

_BUSY = 0.8  # of their time: serving threads that do not keep up
_SHARE = 0.4  # of the serving threads' work: decoding is most of what they do
_STREAMS_WAIT = 0.4  # of their time
_SPARE_CPUS = 0.3
_KEPT = 0.95  # of each thread added: the rest goes to the interpreter's lock and shared caches
_EXACT_COSTS = 1.6  # times as much as fast, for 2 and 8 megapixels into 224x224
_SHRUNK_LEFT = 0.1  # of the decoding, where the client sends no more than the model sees


@rule("decode-threads", "threads")
def decode_threads(case: Case) -> ProfileFinding | None:
    """Few serving threads are busy, mostly with decoding, while inference streams and CPUs wait."""
    capacity = case.summary.utilisation
    decoding = capacity.held("decode", "resize")
    waits = 1 - capacity.busy("inference streams")
    threads = capacity.count("serving threads")
    if (
        capacity.busy("serving threads") < _BUSY
        or decoding < _SHARE
        or waits < _STREAMS_WAIT
        or threads >= case.cpus
        or case.spare_cpus < _SPARE_CPUS
    ):
        return None
    per_worker = max(1, len(case.workers))
    count = f"{threads} serving thread is" if threads == 1 else f"{threads} serving threads are"
    return ProfileFinding(
        "high",
        f"decode is the bottleneck: {count} {percent(capacity.busy('serving threads'))} busy, "
        f"{percent(decoding)} of it decoding and resizing, while inference waits {percent(waits)} of the "
        "time",
        "threads",
        f"raise threads from {threads // per_worker} to {case.cpus // per_worker} a worker",
        max(1.0, _KEPT * min(case.cpus / threads, case.headroom)),
    )


@rule("decode-exact", "decode")
def decode_exact(case: Case) -> ProfileFinding | None:
    """With `decode: exact` pictures much larger than the input take much of the time."""
    decoding = case.summary.utilisation.held("decode", "resize")
    if case.setting("decode") != "exact" or decoding < _SHARE:
        return None
    mean = case.summary.latency.stage("decode", "resize")
    return ProfileFinding(
        "high" if decoding > 0.6 else "medium",
        f"every pixel of large pictures is decoded: that takes {mean:.1f} ms a request, {percent(decoding)} "
        "of the serving threads' work, though the model looks at far fewer",
        "decode",
        "set decode to fast, which decodes a JPEG at the size it is looked at",
        1 / (1 - decoding + decoding / _EXACT_COSTS),
    )


@rule("decode-heavy", "client")
def decode_heavy(case: Case) -> ProfileFinding | None:
    """Decoding takes more work than inference although it is fast: pictures are larger than needed."""
    capacity = case.summary.utilisation
    decoding = capacity.held("decode", "resize")
    if case.setting("decode") == "exact" or decoding < _SHARE or capacity.limit == "load":
        return None
    mean = case.summary.latency.stage("decode", "resize")
    if mean < case.summary.latency.stage("infer"):
        return None
    if case.made_up_picture:
        return ProfileFinding(
            "low",
            f"decoding the generated picture takes longer than inference: {mean:.1f} ms a request, which "
            "says nothing of your pictures",
            "profile",
            "send your own with --load DIR",
        )
    return ProfileFinding(
        "medium",
        f"decoding takes longer than inference: {mean:.1f} ms a request, {percent(decoding)} of the serving "
        "threads' work",
        "client",
        "send pictures no larger than the model sees (cpuserve.client shrinks them)",
        1 / (1 - decoding + _SHRUNK_LEFT * decoding),
    )


RULES = (decode_threads, decode_exact, decode_heavy)
