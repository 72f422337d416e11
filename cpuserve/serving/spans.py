"""When each stage of one traced request began and ended; requests that are not traced have none of it."""

from __future__ import annotations

__all__ = ["DECODE", "INFER", "RESIZE", "SERIALISE", "STAGES", "Spans"]

STAGES = ("queue", "decode", "resize", "batch_wait", "infer", "post", "serialise")
"""Names of stages: waiting for a thread, bytes to pixels, pixels to the model's row, waiting for a stream,
OpenVINO, rows to an answer, and HTTP in and out."""

_QUEUE, DECODE, RESIZE, _BATCH_WAIT, INFER, _POST, SERIALISE = range(len(STAGES))


class Spans:
    """The stages of one request without gaps: each begins where the one before it ended.

    All times are nanoseconds on the clock of `time.perf_counter_ns`.

    Attributes:
        number: of the request in its worker.
        entries: [stage, begin, end] by number of `STAGES`; that of a batch has ``rows << 8`` added to its
            stage, and ``1 << 40`` when this request led the batch.
    """

    __slots__ = ("_at", "entries", "number")

    def __init__(self, number: int, arrived_ns: int, began_ns: int) -> None:
        self.number = number
        self.entries = [[_QUEUE, arrived_ns, began_ns]]
        self._at = began_ns

    def to(self, stage: int, at_ns: int) -> None:
        """End the stage that is under way, which was ``stage``, at ``at_ns``."""
        last = self.entries[-1]
        if last[0] == stage:
            last[2] = at_ns
        else:
            self.entries.append([stage, self._at, at_ns])
        self._at = at_ns

    def close(self, stage: str, at_ns: int) -> None:
        """The same in the words of `cpuserve.serving.request.STAGES`, which are fewer."""
        before = self.entries[-1][0]
        if stage == "queue":
            self.to(SERIALISE if before == _QUEUE else _BATCH_WAIT, at_ns)
        elif stage == "decode":
            self.to(RESIZE if before == RESIZE else DECODE, at_ns)
        else:
            self.to(INFER if stage == "infer" else _POST, at_ns)

    def ran(self, rows: int, *, led: bool) -> None:
        """The stage that was closed last was a batch with so many rows of this request."""
        self.entries[-1][0] |= rows << 8 | led << 40

    def server_timing(self) -> str:
        """Milliseconds by stage, those so far, for a ``Server-Timing`` header."""
        spent = dict.fromkeys(STAGES, 0)
        for stage, begin, end in self.entries:
            spent[STAGES[stage & 0xFF]] += end - begin
        return ", ".join(f"{stage};dur={ns / 1e6:.3f}" for stage, ns in spent.items())
