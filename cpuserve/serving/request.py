"""One request: its deadline, the time spent in each stage and, if it is traced, when each began and ended."""

from __future__ import annotations

import math
import time

from cpuserve.errors import DeadlineExceeded, RequestError
from cpuserve.serving.stages import (
    BATCH_WAIT,
    COUNTED_STAGES,
    DECODE,
    INFER,
    POST,
    QUEUE,
    RESIZE,
    SERIALISE,
    STAGE_NAMES,
)

__all__ = ["MAX_ANSWER_BYTES", "GrpcRequest", "Request", "Spans"]

MAX_ANSWER_BYTES = 256 << 20
_TIMING = ", ".join(f"{stage};dur=%.3f" for stage in (*COUNTED_STAGES, "total"))
_NOTHING_YET = dict.fromkeys(COUNTED_STAGES, 0)


class Spans:
    """The stages of one request without gaps: each begins where the one before it ended.

    All times are nanoseconds on the clock of `time.perf_counter_ns`.

    Attributes:
        number: of the request in its worker.
        entries: [stage, begin, end] by its number in `cpuserve.serving.stages.STAGES`; that of a batch has
            ``rows << 8`` added to its stage, and ``1 << 40`` when this request led the batch.
    """

    __slots__ = ("_at", "entries", "number")

    def __init__(self, number: int, arrived_ns: int, began_ns: int) -> None:
        self.number = number
        self.entries = [[QUEUE, arrived_ns, began_ns]]
        self._at = began_ns

    def end(self, stage: int, at_ns: int) -> None:
        """End the stage that is under way, which was ``stage``, at ``at_ns``."""
        last = self.entries[-1]
        if last[0] == stage:
            last[2] = at_ns
        else:
            self.entries.append([stage, self._at, at_ns])
        self._at = at_ns

    def end_counted(self, stage: str, at_ns: int) -> None:
        """End a stage by its name in `COUNTED_STAGES`."""
        before = self.entries[-1][0]
        if stage == "queue":
            self.end(SERIALISE if before == QUEUE else BATCH_WAIT, at_ns)
        elif stage == "decode":
            self.end(RESIZE if before == RESIZE else DECODE, at_ns)
        else:
            self.end(INFER if stage == "infer" else POST, at_ns)

    def ran(self, rows: int, *, led: bool) -> None:
        """The stage that was closed last was a batch with so many rows of this request."""
        self.entries[-1][0] |= rows << 8 | led << 40

    def server_timing(self) -> str:
        """Milliseconds by stage, those so far, for a ``Server-Timing`` header."""
        spent = dict.fromkeys(STAGE_NAMES, 0)
        for stage, begin, end in self.entries:
            spent[STAGE_NAMES[stage & 0xFF]] += end - begin
        return ", ".join(f"{stage};dur={ns / 1e6:.3f}" for stage, ns in spent.items())


class Request:
    """The deadline and stage durations of one request.

    The stages are ``decode`` (picture or tensor into the batch row), ``queue`` (waiting for a thread and for
    an inference stream), ``infer`` (OpenVINO) and ``post`` (rows to answer).

    Attributes:
        due: its deadline, on the clock of `time.monotonic`.
        max_answer_bytes: most bytes of outputs that are gathered for it.
        started_ns: when the request was whole, on the clock of `time.perf_counter_ns`.
        stages_ns: nanoseconds spent by stage, in order of `COUNTED_STAGES`; a stage entered twice adds up.
        spans: when they were, of a request that is traced; None for any other.
        over_grpc: whether it came over gRPC, which statistics tell apart.
    """

    __slots__ = ("_mark_ns", "due", "max_answer_bytes", "spans", "stages_ns", "started_ns")
    over_grpc = False

    def __init__(
        self,
        started_ns: int | None = None,
        spans: Spans | None = None,
        due: float = math.inf,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.due = due
        self.max_answer_bytes = max_answer_bytes
        self.spans = spans
        self.started_ns = self._mark_ns = time.perf_counter_ns() if started_ns is None else started_ns
        self.stages_ns = {**_NOTHING_YET}

    def check_time(self, done: int, rows: int) -> None:
        """Check the deadline between two batches of one request.

        Raises:
            DeadlineExceeded: it is over.
        """
        if time.monotonic() > self.due:
            raise DeadlineExceeded(
                f"its deadline came when {done} of its {rows} rows were done (header X-Request-Timeout-Ms, "
                "setting deadline_ms); send fewer in one request"
            )

    def check_answer(self, rows: int, row_bytes: int) -> None:
        """Check the size of the whole answer once that of a row is known.

        Raises:
            RequestError: it is larger than an answer may be.
        """
        if rows * row_bytes > self.max_answer_bytes:
            raise RequestError(
                f"{rows} rows have outputs of {rows * row_bytes} bytes; an answer may have "
                f"{self.max_answer_bytes} (setting max_answer_bytes): send fewer rows in one request"
            )

    def start(self) -> None:
        """Let the next stage begin now: time since the last mark belongs to none."""
        self._mark_ns = now = time.perf_counter_ns()
        if self.spans is not None:
            self.spans.end_counted("queue", now)

    def done(self, stage: str, at_ns: int | None = None) -> None:
        """Close ``stage`` now, or at ``at_ns``; the next one begins there."""
        now = time.perf_counter_ns() if at_ns is None else at_ns
        self.stages_ns[stage] += now - self._mark_ns
        self._mark_ns = now
        if self.spans is not None:
            self.spans.end_counted(stage, now)

    def ran(
        self, started_ns: int, finished_ns: int, rows: int, *, led: bool, at_ns: int | None = None
    ) -> None:
        """Close ``queue`` and ``infer`` as the batch that had ``rows`` of this request began and ended.

        What follows begins now, or at ``at_ns``: the time in which this thread was woken belongs to no stage.
        """
        stages, now = self.stages_ns, time.perf_counter_ns() if at_ns is None else at_ns
        stages["queue"] += started_ns - self._mark_ns
        stages["infer"] += finished_ns - started_ns
        self._mark_ns = now
        if self.spans is not None:
            self.spans.end_counted("queue", started_ns)
            self.spans.end_counted("infer", finished_ns)
            self.spans.ran(rows, led=led)
            self.spans.end_counted("queue", now)

    def server_timing(self) -> str:
        """The ``Server-Timing`` header: milliseconds by stage, and ``total`` since the start.

        A traced request has the stages of `cpuserve.serving.stages.STAGES` instead, so far.
        """
        if self.spans is not None:
            return self.spans.server_timing()
        total = time.perf_counter_ns() - self.started_ns
        decode, queue, infer, post = self.stages_ns.values()
        return _TIMING % (decode / 1e6, queue / 1e6, infer / 1e6, post / 1e6, total / 1e6)


class GrpcRequest(Request):
    """A request that came over gRPC."""

    __slots__ = ()
    over_grpc = True
