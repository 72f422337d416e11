"""A call that stays open, and is answered again whenever the answer has changed: `LastingCall`."""

from __future__ import annotations

from cpuserve.errors import BodyTooLarge, CpuserveError
from cpuserve.grpc.core import CoreCall
from cpuserve.grpc.method import Method
from cpuserve.grpc.open_call import STOPPING, CallWorker
from cpuserve.grpc.open_streams import OpenStreams
from cpuserve.grpc.reading_turns import ReadingTurns
from cpuserve.grpc.unary_call import UnaryCall
from cpuserve.protocols.call import Refusal, Reply

__all__ = ["LastingCall"]

_MOST_BYTES = 1 << 10  # of a message, which is kept
_CROWDED = Refusal("UNAVAILABLE", "this call was open longest of too many of its kind: call again")


class LastingCall(UnaryCall):
    """Answers its message now, and whenever a later look finds another answer, until its client leaves.

    Args:
        core, method, worker, turns: see `UnaryCall`.
        open_ones: limits how many there are; one too many ends the oldest.
    """

    def __init__(
        self,
        core: CoreCall,
        method: Method,
        worker: CallWorker,
        turns: ReadingTurns,
        open_ones: OpenStreams,
    ) -> None:
        super().__init__(core, method, worker, turns)
        self._open_ones = open_ones
        self._message: bytes | None = None  # once it is here, and until the end
        self._newest: bytes | None = None
        self._sending = False
        self._end: Refusal | None = None

    @property
    def answering(self) -> bool:
        """See `OpenCall`."""
        return self._sending

    def closed(self, gone: bool) -> None:
        """See `OpenCall`."""
        self._message = None
        self._open_ones.remove(self._crowd_out)
        super().closed(gone)

    def look(self) -> None:
        """Send the answer, if it is another than before."""
        if self._message is not None and not self._sending:
            self._submit(self._call, self._message, self._found)

    def stop(self) -> None:
        """Send the newest answer and end it: the worker is stopping."""
        self.look()
        self._end_after_answer(STOPPING)

    def _take(self, message: bytes) -> None:
        self._core.watch()
        try:
            if len(message) > _MOST_BYTES:
                raise BodyTooLarge(f"the message has {len(message)} bytes; {_MOST_BYTES} are taken here")
            self._open_ones.add(self._crowd_out, self._call.client)
        except CpuserveError as error:
            self.give_up(error)
        else:
            self._open_ones.idle(self._crowd_out)
            self._message = message
            self.look()

    def _found(self, reply: Reply) -> None:
        if reply.refusal is not None:
            self._message = None
            self._send(reply)
        elif reply.body != self._newest:
            self._transport.count(reply)
            self._answered = self._sending = True
            self._newest = reply.body
            self._core.write(reply.body, self._sent)

    def _sent(self) -> None:
        self._sending = False
        self._slow.end(self)
        if self._end is not None:
            self._core.refuse(self._end)

    def _crowd_out(self) -> None:
        self._end_after_answer(_CROWDED)

    def _end_after_answer(self, end: Refusal) -> None:
        if self._message is None:
            return  # it is over, or has not begun
        self._message, self._end = None, end
        if not self._sending:
            self._core.refuse(end)
