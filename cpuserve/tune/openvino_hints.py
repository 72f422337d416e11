"""Asks OpenVINO which settings its performance hints choose for a model.

Run with the model's file as its argument. It sits where one worker of all cores would and prints, by hint,
the properties in force.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cpuserve.errors import CpuserveError, last_line
from cpuserve.machine import numa
from cpuserve.machine.budget import Budget
from cpuserve.machine.placement import plan_for_settings
from cpuserve.machine.process_controls import die_with_parent
from cpuserve.machine.topology import Topology
from cpuserve.settings import Settings
from cpuserve.tune.trial import Point

__all__ = ["HINTS", "hint_points", "main"]

HINTS = ("THROUGHPUT", "LATENCY")
_ASKED = ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "OPTIMAL_NUMBER_OF_INFER_REQUESTS", "ENABLE_CPU_PINNING")


def hint_points(xml: Path, environ: Mapping[str, str]) -> dict[str, Point]:
    """The point of each hint, by its name.

    A worker with all cores, the streams, threads and pinning that OpenVINO chose, and as many serving threads
    as it wants requests under way.

    Args:
        xml: the model.
        environ: environment of the process that asks.

    Raises:
        CpuserveError: it cannot be compiled.
    """
    words = die_with_parent(sys.executable, "-m", "cpuserve.tune.openvino_hints", str(xml))
    # Ctrl-C is for the command
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=dict(environ), process_group=0
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CpuserveError(f"OpenVINO's hints for {xml} cannot be asked for: {last[0]}")
    return {hint: _point(found) for hint, found in json.loads(done.stdout.splitlines()[-1]).items()}


def _point(found: Mapping[str, str]) -> Point:
    streams, threads, requests = (int(found[name]) for name in _ASKED[:3])
    return Point.of(
        {
            "workers": 1,
            "streams": streams,
            "inference_threads": max(streams, threads),
            "threads": max(streams, requests),
            "enable_cpu_pinning": found["ENABLE_CPU_PINNING"] == "True",
        }
    )


def main() -> None:
    """Take the seat, compile with each hint, and print the properties."""
    numa.bind_to_seat(plan_for_settings(Topology.read(), Budget.read(), Settings(workers=1)).seats[0])
    # once it sits, for OpenVINO comes with them
    from cpuserve.serving.graph import with_batch  # noqa: PLC0415
    from cpuserve.serving.openvino_core import openvino_core  # noqa: PLC0415

    core = openvino_core()
    try:
        model = core.read_model(sys.argv[1])
        model = with_batch(model, 1) or model
        # OpenVINO's own choice is to pin; the core's is not
        asked = {hint: {"PERFORMANCE_HINT": hint, "ENABLE_CPU_PINNING": True} for hint in HINTS}
        compiled = {hint: core.compile_model(model, "CPU", how) for hint, how in asked.items()}
    except RuntimeError as error:
        sys.exit(f"OpenVINO cannot compile {sys.argv[1]}: {last_line(error)}")
    found = {hint: {name: str(one.get_property(name)) for name in _ASKED} for hint, one in compiled.items()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
