"""Samples the Python stacks of its own process, for machines where no profiler may attach from outside.

Each sample adds the CPU time that a thread has used since the last sample to the stack it has now, so threads
that wait count for nothing. A sample holds the interpreter's lock. What
runs without the lock (decoding, inference) shows as the Python line that called it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

from cpuserve.serving.stages import SAMPLER_THREAD
from cpuserve.serving.trace_ring import TraceRing, TraceRow

__all__ = ["StackSampler", "folded_stack"]

_SHOW_S = 0.5
_DEEPEST = 100


class StackSampler:
    """Samples while the trace ring's stack rate is above 0.

    Args:
        trace_ring: has the rate.
        row: takes the stacks.
    """

    def __init__(self, trace_ring: TraceRing, row: TraceRow) -> None:
        self._trace_ring = trace_ring
        self._row = row
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """Start sampling if it was switched on since the last call; it stops when it is switched off."""
        if self._trace_ring.stack_rate and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name=SAMPLER_THREAD, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        cpu_ns: Counter[str] = Counter()
        before: dict[int, int] = {}
        shown = time.monotonic()
        self._row.put_stacks({})
        rate = self._trace_ring.stack_rate
        while rate:
            time.sleep(1 / rate)
            self._look(cpu_ns, before)
            asked = self._trace_ring.stack_rate
            if not asked or time.monotonic() - shown >= _SHOW_S:
                shown = time.monotonic()
                self._show(cpu_ns, rate)
            rate = asked

    def _look(self, cpu_ns: Counter[str], before: dict[int, int]) -> None:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            tid, frame = thread.native_id, frames.get(thread.ident or 0)
            if tid is None or frame is None or thread is self._thread:
                continue
            with suppress(OSError, ValueError, IndexError):  # it has just ended
                used = int(Path(f"/proc/self/task/{tid}/schedstat").read_text().split()[0])
                spent = used - before.get(tid, used)
                before[tid] = used
                if spent > 0:
                    cpu_ns[folded_stack(thread.name, frame)] += spent

    def _show(self, cpu_ns: Counter[str], rate: int) -> None:
        """As counts of samples: the CPU time that one stands for is the interval between two."""
        counts = {stack: round(spent * rate / 1e9) for stack, spent in cpu_ns.items()}
        self._row.put_stacks({stack: count for stack, count in counts.items() if count})


def folded_stack(thread: str, frame: FrameType) -> str:
    """``thread;outermost (file:line);...;innermost (file:line)``, as py-spy's raw format has it."""
    names: list[str] = []
    at: FrameType | None = frame
    while at is not None and len(names) < _DEEPEST:
        file = at.f_code.co_filename.rpartition("/")[2]
        names.append(f"{at.f_code.co_name} ({file}:{at.f_lineno})")
        at = at.f_back
    return ";".join([f"thread {thread}", *reversed(names)])
