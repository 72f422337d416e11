"""Lets a candidate answer copies of requests, when a worker has nothing else to do, and compares."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from cpuserve.errors import CpuserveError
from cpuserve.machine.process_controls import block_signals, lower_thread_priority, show_thread_name
from cpuserve.serving.answer_agreement import AnswerReader, ServedAnswers, VectorReader
from cpuserve.serving.answer_tally import Tally
from cpuserve.serving.comparable_answers import ComparableAnswer, MaskAnswer, VectorAnswer
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import TensorsOnly
from cpuserve.serving.request import Request
from cpuserve.serving.shadow_counters import ShadowCell
from cpuserve.serving.shadowed_pipeline import AnsweredRequest, Outputs, rows_of, shadowed
from cpuserve.serving.stages import SHADOW_THREAD

__all__ = ["Shadow", "ShadowThread", "key_of"]

_log = logging.getLogger("cpuserve.shadow")
_MOST_WAITING = 16  # requests of one worker
_MOST_BYTES = 64 << 20
_BUSY_S = 2.0  # a request that finds no idle moment for so long is left out
_LOOK_S = 0.001
_IDLE_LOOKS = 2
_FIRST_VECTORS = 8  # give the centre that embeddings are compared around


def key_of(stable: Pipeline, candidate: Pipeline) -> str:
    """The key of a pair of versions, which is another one when the files of either change."""
    parts = (f"{one.version}:{one.checksum[:16]}" for one in (stable, candidate))
    return "/".join((stable.name, *parts))


class ShadowThread:
    """The thread of a worker that asks candidates; it starts with the first request.

    Args:
        busy: whether the worker has requests of clients, which go first.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._waiting: deque[tuple[Shadow, AnsweredRequest]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._there = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def full(self) -> bool:
        """Whether no further request is taken now."""
        return len(self._waiting) >= _MOST_WAITING or self._bytes >= _MOST_BYTES

    def put(self, shadow: Shadow, asked: AnsweredRequest) -> bool:
        """Take a request; False where there is no room for it."""
        with self._lock:
            if self.full:
                return False
            self._waiting.append((shadow, asked))
            self._bytes += asked.size_bytes
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=SHADOW_THREAD, daemon=True)
                self._thread.start()
        self._there.set()
        return True

    def _run(self) -> None:
        show_thread_name()
        block_signals()
        lower_thread_priority()
        while True:
            self._there.wait()
            self._there.clear()
            while self._waiting:
                idle = self._wait_until_idle()
                with self._lock:
                    shadow, asked = self._waiting.popleft()
                    self._bytes -= asked.size_bytes
                if idle:
                    shadow.compare(asked)
                else:
                    shadow.cell.count("shed")

    def _wait_until_idle(self) -> bool:
        """Wait for two looks in a row at an idle worker: between two requests it is idle for one."""
        until, idle = time.monotonic() + _BUSY_S, 0
        while idle < _IDLE_LOOKS:
            idle = 0 if self._busy() else idle + 1
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK_S)
        return True


class Shadow:
    """A candidate that answers a share of what the stable version answers.

    Attributes:
        stable: the version that answers clients.
        candidate: the version that is compared with it.
        share: of the requests, 0 to 1.
        cell: this worker's counters.
        pipeline: answers as the stable version and hands requests on.

    Args:
        stable: the version that answers clients.
        candidate: the version that is compared with it.
        share: of the requests, 0 to 1.
        cell: this worker's counters.
        thread: asks the candidate.
    """

    def __init__(
        self, stable: Pipeline, candidate: Pipeline, share: float, cell: ShadowCell, thread: ShadowThread
    ) -> None:
        self.stable, self.candidate, self.share, self.cell = stable, candidate, share, cell
        self._thread = thread
        self._asked = candidate.uncounted()
        self._readers = _Reader(stable, _FIRST_VECTORS), _Reader(candidate, 0)
        self.pipeline = shadowed(stable, self._hand_on)

    @property
    def key(self) -> str:
        """Tells the pair from others in the shared counters."""
        return key_of(self.stable, self.candidate)

    def takes(self) -> bool:
        """Whether a request belongs to the share, and there is room for it."""
        if random.random() >= self.share:  # noqa: S311  # nothing depends on its secrecy
            return False
        if self._thread.full:
            self.cell.count("shed")
            return False
        return True

    def _hand_on(self, asked: AnsweredRequest) -> None:
        if not self._thread.put(self, asked):
            self.cell.count("shed")

    def compare(self, asked: AnsweredRequest) -> None:
        """Ask the candidate, and count times and agreement; whatever it raises is counted as its failure."""
        request = Request()
        began = time.thread_time_ns()
        try:
            given = self._answer(asked, request)
        except Exception as error:  # noqa: BLE001  # no client waits for it
            expected = isinstance(error, CpuserveError)
            self.cell.failed(str(error) if expected else f"{type(error).__name__}: {error}")
            return
        spent = time.thread_time_ns() - began
        try:
            self._compare(asked, given)
        except Exception as error:  # noqa: BLE001  # the thread goes on with the next
            _log.exception("comparing answers of %s failed", self.stable.name)
            self.cell.silent(f"comparing failed: {type(error).__name__}: {error}")
        if asked.rows == len(asked.outputs):  # times of a request that was cut say nothing
            self.cell.timed("stable", asked.infer_ns, asked.cpu_ns)
            self.cell.timed("candidate", request.stages_ns["infer"], spent)

    def _answer(self, asked: AnsweredRequest, request: Request) -> list[Outputs]:
        if asked.tensors:
            found = self._asked.infer(asked.tensors, request)
            return rows_of(self._asked, found, len(asked.outputs))
        return [self._asked.outputs_of(picture, request) for picture in asked.pictures]

    def _compare(self, asked: AnsweredRequest, given: Sequence[Outputs]) -> None:
        """Compare row by row; a request counts once."""
        stable, candidate = self._readers
        tallies: list[Tally] = []
        by_class = False
        for before, after, frame in zip(asked.outputs, given, asked.frames, strict=True):
            expected = stable.read(before, frame)
            found = candidate.read(after, frame)
            if expected is None:
                continue
            same = found if type(found) is type(expected) else None
            by_class = isinstance(expected, MaskAnswer)
            tallies.append(stable.centred(expected).against(None if same is None else stable.centred(same)))
        if tallies:
            self.cell.compared(Tally.total(tallies), stable.what, by_class=by_class)
        else:
            self.cell.silent(stable.why_not)


class _Reader:
    """Reads the outputs of one version as answers that can be compared.

    Args:
        pipeline: the version.
        first_vectors: embeddings that only say what all have in common.
    """

    def __init__(self, pipeline: Pipeline, first_vectors: int) -> None:
        self._first = first_vectors
        self._post = pipeline.post
        self._vectors = isinstance(pipeline.post, TensorsOnly) and len(pipeline.outputs) == 1
        self._sum: np.ndarray | None = None
        self._count = 0
        self.what = "embeddings" if self._vectors else "answers"
        self.why_not = ""

    def read(self, outputs: Outputs, frame: PictureSize) -> ComparableAnswer | None:
        """The answer; None where there is none that means anything."""
        if any(part.dtype.kind == "f" and np.isnan(part).any() for part in outputs):
            self.why_not = "the stable version answers NaN"
            return None
        reader: AnswerReader = VectorReader() if self._vectors else ServedAnswers(self._post, [frame])
        found = reader(outputs, 0)
        self.what, self.why_not = reader.what, reader.why_not
        if isinstance(found, VectorAnswer):
            self._sum = found.values if self._sum is None else self._sum + found.values
            self._count += 1
            if self._count <= self._first:
                self.why_not = "the first embeddings say what all have in common"
                return None
        return found

    def centred(self, answer: ComparableAnswer) -> ComparableAnswer:
        """An embedding around the mean of those of the stable version; any other answer as it is."""
        if not isinstance(answer, VectorAnswer) or self._sum is None:
            return answer
        return replace(answer, centre=self._sum / self._count)
