"""Passes requests that wait in a busy worker to a worker that has an idle thread."""

from __future__ import annotations

from cpuserve.http.mailbox import Mailboxes, WaitingRequest
from cpuserve.serving.worker_table import READY, WorkerRow, WorkerTable

__all__ = ["Handover"]


class Handover:
    """Gives and takes waiting requests for one worker.

    Args:
        worker_table: has the number of idle threads of each worker.
        row: this worker's.
        mailboxes: one per row.

    Attributes:
        number: the descriptor that is readable when another worker has left a request here.
    """

    def __init__(self, worker_table: WorkerTable, row: WorkerRow, mailboxes: Mailboxes) -> None:
        self._worker_table = worker_table
        self._row = row
        self._mailboxes = mailboxes
        self._mine = next(number for number, other in enumerate(worker_table.rows) if other is row)
        self.number = mailboxes.number(self._mine)

    def tell_idle(self, threads: int) -> None:
        """Tell the other workers how many threads of this one are idle."""
        self._row.idle_threads = threads

    def give(self, request: WaitingRequest) -> bool:
        """Leave a request, with its connection, for a worker that has an idle thread.

        Returns:
            Whether it was left; the caller then closes its own descriptor of the connection.
        """
        for number, row in enumerate(self._worker_table.rows):
            idle = row.idle_threads
            if idle and number != self._mine and row.state == READY and not row.hangs:
                row.idle_threads = idle - 1  # no other request is left for the same thread
                return self._mailboxes.send(number, request)
        return False

    def anybody_idle(self) -> bool:
        """Whether another worker has an idle thread."""
        return any(
            row.idle_threads and row.state == READY
            for number, row in enumerate(self._worker_table.rows)
            if number != self._mine
        )

    def receive(self) -> WaitingRequest | None:
        """Take a request that another worker has left here; None when there is none."""
        return self._mailboxes.receive(self._mine)

    def pass_on(self) -> None:
        """Pass on the requests in this worker's mailbox to any ready worker; its own threads have ended.

        Without a ready worker their connections end without an answer.
        """
        while (request := self.receive()) is not None:
            ready = (
                number
                for number, row in enumerate(self._worker_table.rows)
                if number != self._mine and row.state == READY
            )
            any(self._mailboxes.send(number, request) for number in ready)
            request.sock.close()
