"""A process with one network in one framework that answers and times on demand.

Run with a JSON object as its argument; it writes JSON lines: ``{}`` once it is loaded, or why it is
``refused``, and one for each line of stdin, which is ``answers FILE`` or ``run SECONDS``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from cpuserve.authoring.source import input_shapes
from cpuserve.bench.frameworks import Run, load

__all__ = ["main"]

_WARM = 3


def main() -> None:
    """Load the network, then obey each line of stdin."""
    # frameworks print what they like to file 1; what is said here goes to where it pointed before
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    spec = json.loads(sys.argv[1])
    tensors = list(np.load(spec["tensors"]))
    tensor = tensors[0].copy()
    try:
        shapes = input_shapes(spec["input"])
        run = load(spec["framework"], spec["source"], shapes, tensor, spec["threads"], spec["precision"])
        for _ in range(_WARM):
            run()
    except Exception as error:  # noqa: BLE001  # whatever a framework raises is the reason to be shown
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        _say(said, {"refused": reason[:400] or type(error).__name__})
        return
    _say(said, {})
    for line in sys.stdin:
        word, _, value = line.strip().partition(" ")
        if word == "answers":
            _answers(run, tensor, tensors, Path(value))
            _say(said, {})
        else:
            _say(said, _timed(run, float(value), len(tensor)))


def _answers(run: Run, tensor: Any, tensors: list[Any], file: Path) -> None:
    """Every tensor through the one that the framework was given."""
    found: dict[str, Any] = {}
    for number, one in enumerate(tensors):
        tensor[:] = one
        for place, output in enumerate(run()):
            found[f"{number}.{place}"] = np.array(output)
    np.savez(file, **found)


def _timed(run: Run, seconds: float, batch: int) -> dict[str, float]:
    count, cpu, began = 0, time.process_time(), time.perf_counter()
    now = began
    while now < began + seconds:
        run()
        count += batch
        now = time.perf_counter()
    return {"ms": 1000 * (now - began) / count, "cpu_ms": 1000 * (time.process_time() - cpu) / count}


def _say(said: Any, document: dict[str, Any]) -> None:
    said.write(json.dumps(document) + "\n")
    said.flush()


if __name__ == "__main__":
    main()
