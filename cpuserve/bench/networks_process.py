"""Times one network in one precision over batch sizes, in its own process, and writes JSON lines.

A process of its own gives its memory back, and can be killed for want of it without ending the run.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import openvino as ov
import psutil

from cpuserve.authoring.complexity import complexity
from cpuserve.authoring.nncf_quantizer import load_nncf
from cpuserve.authoring.zoo.networks import build_network
from cpuserve.serving.openvino_core import openvino_core

__all__ = ["footprint_bytes", "main", "measure"]

_PASS_S = 0.2
"""A pass lasts at least as long: a batch done sooner is run again, and the mean is the pass's time."""

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h: die with the process that started this one, however that ends
_CALIBRATION = 2  # random images to quantise random weights with: their ranges change no speed


def measure(
    network: str, precision: str, batches: list[int], *, passes: int, threads: int, limit_bytes: int
) -> Iterator[dict[str, Any]]:
    """Compile and time a network for each batch, smallest first.

    Args:
        network: a name of the zoo.
        precision: f32, f16, bf16, or int8 (quantised after training, the rest of it in f32).
        batches: images at once.
        passes: timed passes, after one that is not timed.
        threads: threads of the one stream, which all work on one batch.
        limit_bytes: memory limit of this process.

    Yields:
        For each batch ``batch`` and either ``skipped``, the reason; or ``passes_ms`` an image, their mean
        ``ms_per_image`` and standard deviation ``spread_ms``, ``estimated_mib`` and ``peak_mib`` of memory,
        ``gmacs``, 10^9 multiply-adds an image, and ``foreign_cores`` that other processes used meanwhile.
    """
    model = build_network(network)
    gmacs = complexity(model).multiply_adds / 1e9
    needs = {batch: footprint_bytes(model, batch) for batch in sorted(batches)}
    if precision == "int8" and min(needs.values()) <= limit_bytes:
        model = _quantise(model)
    core = openvino_core()
    computed = "f32" if precision == "int8" else precision
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": computed,
    }
    surpassed = 0  # bytes by which the estimate was too low so far
    for batch, need in needs.items():
        expected = need + surpassed
        if expected > limit_bytes:
            yield {"batch": batch, "skipped": _too_large(expected, limit_bytes)}
            continue
        model.reshape([batch, 3, 224, 224])
        compiled = core.compile_model(model, "CPU", hints)
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used != computed:
            yield {"batch": batch, "skipped": f"this CPU has no {precision}: OpenVINO computes in {used}"}
            continue
        images = np.random.default_rng(batch).standard_normal((batch, 3, 224, 224), np.float32)
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(images, shared_memory=True))
        began, others = time.perf_counter(), _others_cpu_s()
        times = [1000 * seconds / batch for seconds in _times(request.infer, passes)]
        others = (_others_cpu_s() - others) / (time.perf_counter() - began)
        peak = _peak_bytes()
        surpassed = max(surpassed, peak - need)
        yield {
            "batch": batch,
            "ms_per_image": statistics.fmean(times),
            "spread_ms": statistics.stdev(times) if passes > 1 else 0.0,
            "passes_ms": times,
            "estimated_mib": expected >> 20,
            "peak_mib": peak >> 20,
            "gmacs": gmacs,
            "foreign_cores": max(0.0, others),
        }
        del request, compiled


def _times(run: Callable[[], object], passes: int) -> list[float]:
    run()
    times = []
    for _ in range(passes):
        began, runs = time.perf_counter(), 0
        while runs == 0 or time.perf_counter() - began < _PASS_S:
            run()
            runs += 1
        times.append((time.perf_counter() - began) / runs)
    return times


def _peak_bytes() -> int:
    """The most memory that this program has held; ``ru_maxrss`` would count its parent's as well."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _others_cpu_s() -> float:
    machine, own = psutil.cpu_times(), os.times()
    return float(sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice) - (
        own.user + own.system
    )


def _quantise(model: ov.Model) -> ov.Model:
    nncf = load_nncf()
    images = np.random.default_rng(0).standard_normal((_CALIBRATION, 1, 3, 224, 224), np.float32)
    quick = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    quantised: ov.Model = nncf.quantize(
        model, nncf.Dataset(list(images)), subset_size=_CALIBRATION, advanced_parameters=quick
    )
    return quantised


def _too_large(need: int, limit: int) -> str:
    return f"needs about {need >> 20} MiB, --memory-limit is {limit >> 20} MiB"


def main(arguments: list[str] | None = None, out: IO[str] | None = None) -> None:
    """Measure what the command line says; a line of JSON a batch, to ``out`` or standard output."""
    parser = argparse.ArgumentParser(description="Time a network.")
    parser.add_argument("network")
    parser.add_argument("precision")
    parser.add_argument("batches", type=int, nargs="+")
    for name in ("passes", "threads", "limit-bytes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args(arguments)
    if out is None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # libraries print to standard output too: they get standard error, and the lines a pipe of their own
        out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for record in measure(
        given.network,
        given.precision,
        given.batches,
        passes=given.passes,
        threads=given.threads,
        limit_bytes=given.limit_bytes,
    ):
        out.write(json.dumps(record) + "\n")
        out.flush()


_PROCESS = 200 << 20  # Python, OpenVINO and its kernels
_WEIGHT_COPIES = 2  # the graph's own, and the ones the plugin lays out anew for its kernels


def footprint_bytes(model: ov.Model, batch: int) -> int:
    """The memory of a process that compiles and runs the model.

    The values between operations are counted while they are needed, in the order of execution: at its peak
    that is what a runtime that reuses its buffers must hold. They are counted in f32, which is what other
    precisions are converted from.

    Args:
        model: with static shapes, for a batch of 1.
        batch: images at once; values grow with it, weights do not.
    """
    return _PROCESS + _WEIGHT_COPIES * _weights(model) + batch * _peak(model)


def _weights(model: ov.Model) -> int:
    return sum(_size(node.output(0)) for node in model.get_ops() if node.get_type_name() == "Constant")


def _peak(model: ov.Model) -> int:
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() != "Constant"]
    last: dict[ov.Node, int] = {}
    for step, node in enumerate(nodes):
        for value in node.input_values():
            last[value.get_node()] = step
    live = peak = 0
    for step, node in enumerate(nodes):
        live += sum(_size(value) for value in node.outputs())
        peak = max(peak, live)
        for source in {value.get_node() for value in node.input_values()}:
            if last[source] == step and source.get_type_name() != "Constant":
                live -= sum(_size(value) for value in source.outputs())
    return peak


def _size(value: ov.Output) -> int:
    bits: int = value.get_element_type().get_bitwidth()
    shape: list[int] = list(value.get_shape())
    return math.prod(shape) * bits // 8


if __name__ == "__main__":
    main()
