"""Passes requests that wait in a busy worker to a worker that has an idle thread."""

from __future__ import annotations

from cpuserve.http.mailbox import Mailboxes, WaitingRequest
from cpuserve.serving.worker_table import READY, Board, Line

__all__ = ["Handover"]


class Handover:
    """One worker's part in it.

    Args:
        board: tells which workers have idle threads.
        line: this worker's.
        mailboxes: one a line.

    Attributes:
        number: the descriptor that is readable when another worker has left a request here.
    """

    def __init__(self, board: Board, line: Line, mailboxes: Mailboxes) -> None:
        self._board = board
        self._line = line
        self._mailboxes = mailboxes
        self._mine = next(number for number, other in enumerate(board.lines) if other is line)
        self.number = mailboxes.number(self._mine)

    def tell_idle(self, threads: int) -> None:
        """Tell the other workers how many threads of this one have nothing to do."""
        self._line.idle_threads = threads

    def give(self, request: WaitingRequest) -> bool:
        """Leave a request, with its connection, for a worker that has an idle thread.

        Returns:
            Whether it was left; the caller then closes its own descriptor of the connection.
        """
        for number, line in enumerate(self._board.lines):
            idle = line.idle_threads
            if idle and number != self._mine and line.state == READY and not line.silent:
                line.idle_threads = idle - 1  # no other request is left for the same thread
                return self._mailboxes.send(number, request)
        return False

    def anybody_idle(self) -> bool:
        """Whether another worker has an idle thread."""
        return any(
            line.idle_threads and line.state == READY
            for number, line in enumerate(self._board.lines)
            if number != self._mine
        )

    def receive(self) -> WaitingRequest | None:
        """Take a request that another worker has left here; None when there is none."""
        return self._mailboxes.receive(self._mine)

    def pass_on(self) -> None:
        """Leave what was left here to any worker that is ready; this one has ended its threads.

        Where there is none, the connection ends without an answer.
        """
        while (request := self.receive()) is not None:
            ready = (
                number
                for number, line in enumerate(self._board.lines)
                if number != self._mine and line.state == READY
            )
            any(self._mailboxes.send(number, request) for number in ready)
            request.sock.close()
