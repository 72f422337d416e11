"""Runs one network in several frameworks by turns, each with its best number of threads."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from cpuserve.authoring import parity
from cpuserve.errors import CpuserveError, UsageError
from cpuserve.measuring.stable_windows import spread
from cpuserve.serving.engine import Array

__all__ = ["FrameworkResult", "compare", "thread_counts", "verdict"]

_END_S = 30.0


@dataclass
class FrameworkResult:
    """The times and outputs of one framework.

    Attributes:
        name: name of the framework; the others are compared with OpenVINO.
        refused: why it was not measured; "" when it was.
        tried: ms an image by number of threads, in one window each.
        threads: the fastest number of threads.
        ms: ms an image, by round.
        cpu_ms: CPU of the process an image, by round.
        difference: largest absolute difference of its outputs to OpenVINO's; None for class ids.
        top1: share of the pictures with the same best class; None where the output holds none.
        note: why the outputs could not be compared.
    """

    name: str
    refused: str = ""
    tried: dict[int, float] = field(default_factory=dict)
    threads: int = 0
    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    difference: float | None = None
    top1: float | None = None
    note: str = ""

    def figures(self, first: FrameworkResult) -> dict[str, Any]:
        """For a result file."""
        if self.refused:
            return {"framework": self.name, "refused": self.refused}
        return {
            "framework": self.name,
            "ms_per_image": statistics.median(self.ms),
            "cpu_ms_per_image": statistics.median(self.cpu_ms),
            "noise": spread(self.ms),
            "threads": self.threads,
            "ms_by_threads": {str(threads): ms for threads, ms in self.tried.items()},
            "time_to_openvino": statistics.median(self.ratios(first)),
            "verdict": verdict(self.ratios(first)),
            "max_abs_diff": self.difference,
            "top1_agreement": self.top1,
            "note": self.note,
            "rounds_ms": self.ms,
        }

    def ratios(self, first: FrameworkResult) -> list[float]:
        """Its time over OpenVINO's, round by round."""
        return [ours / theirs for ours, theirs in zip(self.ms, first.ms, strict=True)]


def verdict(ratios: Sequence[float]) -> str:
    """``tie`` when the rounds disagree about who is faster, or the median is inside half of their spread."""
    middle = statistics.median(ratios)
    if min(ratios) <= 1 <= max(ratios) or abs(middle - 1) < spread(ratios) / 2:
        return "tie"
    return f"{middle:.2f} times OpenVINO's time"


def thread_counts(most: int) -> list[int]:
    """Numbers of threads to try: powers of two, and all."""
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return sorted({*counts, most})


def compare(
    source: str,
    frameworks: Sequence[str],
    tensors: Sequence[Array],
    folder: Path,
    *,
    shapes: Sequence[str],
    precision: str,
    threads: Sequence[int],
    rounds: int,
    seconds: float,
    done: Callable[[], None] = lambda: None,
) -> list[FrameworkResult]:
    """Measure OpenVINO and the others.

    Each framework has its own process; those not being measured wait for input.

    Args:
        source: a model file, directory or ``module:callable``.
        frameworks: names of `cpuserve.bench.frameworks.FRAMEWORKS`.
        tensors: one input [batch, ...] or more; all are compared, the first is timed.
        folder: where the processes exchange files.
        shapes: ``NAME[1,3,224,224]``, as for `cpuserve.authoring.source.input_shapes`.
        precision: OpenVINO's precision.
        threads: numbers of threads to try.
        rounds: windows of each framework, by turns.
        seconds: length of each window.
        done: is called after every tuned framework and every round.

    Raises:
        CpuserveError: OpenVINO itself cannot run it.
    """
    spec = {
        "source": source,
        "input": list(shapes),
        "precision": precision,
        "tensors": str(folder / "tensors.npy"),
    }
    np.save(folder / "tensors.npy", np.stack(tensors))
    entries = [FrameworkResult(name) for name in ("openvino", *frameworks)]
    with ExitStack() as stack:
        processes = {}
        for entry in entries:
            process = _tuned(entry, spec, folder, threads, seconds)
            done()
            if process is not None:
                processes[entry.name] = stack.enter_context(process)
            elif entry is entries[0]:
                raise CpuserveError(f"OpenVINO cannot run {source}: {entry.refused}")
        running = [entry for entry in entries if entry.name in processes]
        for number in range(rounds):
            for entry in running if number % 2 == 0 else reversed(running):
                found = processes[entry.name].ask(f"run {seconds}")
                entry.ms.append(found["ms"])
                entry.cpu_ms.append(found["cpu_ms"])
            done()
        answers = {}
        for entry in running:
            file = folder / f"{entry.name}.npz"
            processes[entry.name].ask(f"answers {file}")
            answers[entry.name] = _answers(file, len(tensors))
    for entry in running[1:]:
        _agree(entry, answers["openvino"], answers[entry.name])
    return entries


class _Process:
    """A child process that runs a framework."""

    def __init__(self, spec: dict[str, Any], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cpuserve.bench.framework_process", json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                process_group=0,  # Ctrl-C is for the command
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, line: str = "") -> dict[str, Any]:
        """Send a line, if there is one, and return the answer; ``refused`` also when the process ended."""
        text = ""
        with suppress(BrokenPipeError):
            if line and self._process.stdin is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            if self._process.stdout is not None:
                text = self._process.stdout.readline()
        if not text:
            words = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            code = self._process.wait()
            refused = f"its process ended with {code}: {' '.join(words)[:300]}"
            if line:
                raise CpuserveError(refused)
            return {"refused": refused}
        found: dict[str, Any] = json.loads(text)
        return found


def _tuned(
    entry: FrameworkResult, spec: dict[str, Any], folder: Path, counts: Sequence[int], seconds: float
) -> _Process | None:
    """Try the numbers of threads; the process with the best one stays, or None where it is refused."""
    best: _Process | None = None
    for threads in counts:
        process = _Process(
            {**spec, "framework": entry.name, "threads": threads}, folder / f"{entry.name}.log"
        )
        loaded = process.ask()
        if "refused" in loaded:
            process.__exit__(None, None, None)
            entry.refused = loaded["refused"]
            return None
        entry.tried[threads] = process.ask(f"run {seconds}")["ms"]
        if entry.tried[threads] == min(entry.tried.values()):
            best, process = process, best  # the worse of the two ends
            entry.threads = threads
        if process is not None:
            process.__exit__(None, None, None)
    return best


def _answers(file: Path, count: int) -> list[list[Array]]:
    """Outputs by input."""
    with np.load(file) as found:
        places = len(found.files) // count
        return [[found[f"{number}.{place}"] for place in range(places)] for number in range(count)]


def _agree(entry: FrameworkResult, reference: list[list[Array]], candidate: list[list[Array]]) -> None:
    """Compare the first output, and of the other framework's the first one of that shape."""
    shape = reference[0][0].squeeze().shape
    place = next((n for n, array in enumerate(candidate[0]) if array.squeeze().shape == shape), None)
    if place is None:
        there = ", ".join(str(list(array.shape)) for array in candidate[0])
        entry.note = f"no output of shape {list(reference[0][0].shape)} to compare; it has {there}"
        return
    rows = [row for outputs in reference for row in outputs[0]]
    others = [
        row
        for outputs, first in zip(candidate, reference, strict=True)
        for row in outputs[place].reshape(first[0].shape)
    ]
    try:
        found = parity.compare(rows, others)
    except UsageError as error:
        entry.note = str(error)
        return
    entry.difference, entry.top1 = found.max_abs_diff, found.top1_agreement
