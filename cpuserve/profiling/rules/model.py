"""Rules about the model: slow kernels, 32-bit layers, batches, and the Python code after inference."""

from __future__ import annotations

import re

from cpuserve.profiling.finding import Case, ProfileFinding, percent, rule
from cpuserve.profiling.recording import LayerTime
from cpuserve.serving.stages import stage_of

__all__ = ["RULES"]

_SLOW_SHARE = 0.05  # of the layers' time
_FLOAT_SHARE = 0.5
_INFERS = 0.3  # of the serving threads' work
_NARROWER_GAINS = 2.0  # values half as wide in each register, and half the memory traffic
_TAIL = 0.3  # of the serving threads' work
_SERIALISES = 0.2
_BINARY_SAVES = 0.9  # of writing numbers as JSON
_BEFORE = ("decode", "resize", "infer")  # stages before the tail
_COMPUTES_IN = re.compile(r"_((?:fp?|bf|[iu])\d+)$")
_FEW_ROWS = 1.2  # rows a batch
_WAITING = 3.0  # requests in flight for each stream
_BUSY = 0.85


@rule("slow-kernels", "model")
def slow_kernels(case: Case) -> ProfileFinding | None:
    """Layers run in reference kernels, which use no vector instructions."""
    layers = case.recording.layers
    total = sum(layer.mean_us for layer in layers)
    slow = [layer for layer in layers if layer.exec_type.lower().startswith("ref")]
    share = sum(layer.mean_us for layer in slow) / total if total else 0.0
    if share < _SLOW_SHARE:
        return None
    worst = max(slow, key=lambda layer: layer.mean_us)
    return ProfileFinding(
        "medium" if share > 0.2 else "low",
        f"layers run in reference kernels: {len(slow)} of {len(layers)} take {percent(share)} of the "
        f"inference, most of it {worst.name} ({worst.type}, {worst.exec_type}, {worst.mean_us:.0f} us)",
        "model",
        "replace the operation, or cut it off and run it elsewhere (cpuserve cutpoints, cpuserve cut)",
    )


@rule("float-layers", "precision", "model")
def float_layers(case: Case) -> ProfileFinding | None:
    """The model computes in 32 bits on a CPU that has instructions for fewer."""
    layers = case.recording.layers
    total = sum(layer.mean_us for layer in layers)
    wide = sum(layer.mean_us for layer in layers if _wide(layer))
    infers = case.summary.utilisation.held("infer")
    if not total or wide / total < _FLOAT_SHARE or infers < _INFERS:
        return None
    share = infers * wide / total
    text = f"inference computes in 32-bit floats: {percent(wide / total)} of it, though the CPU can do "
    expected = 1 / (1 - share + share / _NARROWER_GAINS)
    if case.flags & {"avx512_bf16", "amx_bf16", "bf16"}:
        if case.setting("precision") not in ("auto", "f32"):
            return None
        change = "record what bf16 changes (cpuserve convert --images) for precision auto, or set it to bf16"
        return ProfileFinding("medium", text + "bf16", "precision", change, expected)
    if case.flags & {"avx512_vnni", "avx_vnni", "asimddp"}:
        change = "quantise it (cpuserve quantize), if it stays as accurate"
        return ProfileFinding("medium", text + "8-bit integers", "model", change, expected)
    return None


@rule("lone-rows", "threads")
def lone_rows(case: Case) -> ProfileFinding | None:
    """Requests wait, yet batches hold one row: with a stream for each thread nobody shares one."""
    capacity = case.summary.utilisation
    batches = case.recording.batches
    streams = capacity.count("inference streams")
    rows = sum(batch.size for batch in batches) / len(batches) if batches else 0.0
    if (
        not batches
        or rows > _FEW_ROWS
        or capacity.busy("inference streams") < _BUSY
        or capacity.in_flight < _WAITING * streams
        or case.setting("max_batch") == 1
    ):
        return None
    return ProfileFinding(
        "low",
        f"batching never happens: {rows:.2f} rows a batch with {capacity.in_flight:.0f} requests inside, "
        f"since {capacity.count('serving threads')} threads feed {streams} streams",
        "threads",
        "if the model gains from batches (cpuserve bench networks tells), give a worker more threads than "
        "cores",
    )


@rule("python-tail", "model", "workers")
def python_tail(case: Case) -> ProfileFinding | None:
    """What follows the inference, in Python, takes much of the serving threads' work."""
    capacity = case.summary.utilisation
    share = capacity.held("post")
    if share < _TAIL or capacity.held("decode", "resize") > share:
        return None
    mean = case.summary.latency.stage("post")
    text = (
        f"the tail is Python-heavy: post-processing takes {mean:.1f} ms a request, {percent(share)} of the "
        "serving threads' work"
    )
    hot = next((one for one in case.hot if stage_of(one.function) not in _BEFORE), None)
    if hot is not None:
        text += f"; {hot.function} alone holds {percent(hot.self_share)} of the stack samples"
    spare = case.spare_cpus > 0.3 and capacity.limit == "serving threads"
    change = "run the tail in the graph (cpuserve cut --tail ir), or write its loops in NumPy or OpenCV"
    if spare:
        change += "; workers, not threads, let Python run on more CPUs"
    return ProfileFinding("high" if share > 0.5 else "medium", text, "model", change, 1 / (1 - 0.9 * share))


@rule("json-heavy", "client")
def json_heavy(case: Case) -> ProfileFinding | None:
    """Writing the answer takes much of the work: large tensors as JSON."""
    share = case.summary.utilisation.held("serialise")
    if share < _SERIALISES:
        return None
    mean = case.summary.latency.stage("serialise")
    return ProfileFinding(
        "high" if share > 0.5 else "medium",
        f"HTTP takes much of the work: reading requests and writing answers costs {mean:.1f} ms a request, "
        f"{percent(share)} of the serving threads' time; large tensors as JSON are the usual cause",
        "client",
        "send and ask for binary tensors (the binary data extension: binary_data_output), or for classes, "
        "which are small",
        1 / (1 - _BINARY_SAVES * share),
    )


def _wide(layer: LayerTime) -> bool:
    """Whether it computes in 32 bits: by its kernel's name, which is surer than its output's precision."""
    known = _COMPUTES_IN.search(layer.exec_type.lower())
    return (known[1] if known else layer.precision.lower()) in ("f32", "fp32")


RULES = (slow_kernels, float_layers, lone_rows, python_tail, json_heavy)
