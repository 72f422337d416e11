"""A call of one message and one answer: `UnaryCall`."""

from __future__ import annotations

from cpuserve.errors import CpuserveError, RequestError
from cpuserve.grpc.core import CoreCall
from cpuserve.grpc.grpc_call import GrpcCall
from cpuserve.grpc.method import Method
from cpuserve.grpc.open_call import CallWorker, OpenCall
from cpuserve.grpc.reading_turns import ReadingTurns
from cpuserve.protocols.call import Reply, error_reply

__all__ = ["UnaryCall"]


class UnaryCall(OpenCall):
    """Reads its message once it is its turn, and sends the answer.

    Args:
        core, method, worker: see `OpenCall`.
        turns: of messages to be read.

    Attributes:
        client, since, due, reading: see `Reader`.
    """

    def __init__(
        self,
        core: CoreCall,
        method: Method,
        worker: CallWorker,
        turns: ReadingTurns,
    ) -> None:
        super().__init__(core, method, worker)
        self._turns = turns
        self._call = self._new_call()
        self.client = self._call.client
        self.since = self.due = 0.0
        self.reading = False
        self._waiting: GrpcCall | None = None
        self._answered = False  # without any waiting
        self._missing: RequestError | None = None  # its message, as far as is known

    @property
    def answering(self) -> bool:
        """See `OpenCall`."""
        return self._answered

    def start(self) -> None:
        """Check it and begin to read."""
        try:
            self._check(self._call)
        except CpuserveError as error:
            self.give_up(error)
        else:
            self._turns.begin(self)
            if not self.reading:
                self._core.watch()

    def closed(self, gone: bool) -> None:
        """It is over.

        Args:
            gone: whether its client, or a lack of time, ended it.
        """
        waiting, transport = self._waiting, self._transport
        if waiting is None:  # else it has been read
            self._turns.end(self)
        self._slow.end(self)
        unanswered = not self._answered if waiting is None else gone and waiting.abandon()
        self._answered = True
        if not unanswered:
            return
        if self._missing is not None and not gone:
            transport.count(self._refusal(self._call, self._missing))
        else:
            transport.count_answer("CANCELLED")

    def read(self) -> None:
        """Begin to receive its message."""
        self._core.read(self._came)

    def give_up(self, error: CpuserveError) -> None:
        """Refuse it before its message is here."""
        self._send(self._refusal(self._call, error))

    def _came(self, message: bytes | None) -> None:
        self._turns.end(self)
        if self._answered:
            return  # it took too long
        if message is None:
            # where gRPC has refused one, or the client has gone, nobody hears this
            self._missing = RequestError("there is no message")
            self._finish(error_reply(self._missing))
            return
        self._take(message)

    def _take(self, message: bytes) -> None:
        """Have the message answered."""
        self._waiting = self._submit(self._call, message, self._send)

    def _send(self, reply: Reply) -> None:
        """Send the answer; any thread may call this."""
        self._answered = True
        self._transport.count(reply)
        self._held.send(self._finish, reply)

    def _finish(self, reply: Reply) -> None:
        trailing = [(name.lower(), value) for name, value in reply.headers if name != "Content-Type"]
        if reply.refusal is None:
            self._slow.begin(self, len(reply.body))
            self._core.finish(reply.body, trailing)
        else:
            self._core.refuse(reply.refusal, trailing)
