"""Refuses requests of other transports before their bodies are read: `EarlyRefusal`."""

from __future__ import annotations

import math
from typing import Any

from cpuserve.http.request_queue import RequestQueue
from cpuserve.protocols.call import Call
from cpuserve.protocols.urgency import DEFAULT_PRIORITY, MOST_URGENT, urgency_of
from cpuserve.serving.admission import Admission

__all__ = ["EarlyRefusal"]


class EarlyRefusal:
    """Knows of a request whose head alone is here whether it would be refused whatever it asks for.

    Where requests come faster than they are served, most of them are refused. Whoever reads the bodies of
    these first has less time for the others.

    Args:
        queue: where it would wait.
        admission: decides whether it may.
        deadline_s: of requests that name none.
        with_priorities: whether requests may set their priority.
    """

    def __init__(
        self,
        queue: RequestQueue[Any],
        admission: Admission,
        deadline_s: float,
        with_priorities: bool,
    ) -> None:
        self._queue = queue
        self._admission = admission
        self._deadline_s = deadline_s
        self._most_urgent = MOST_URGENT if with_priorities else DEFAULT_PRIORITY

    def check(self, call: Call, most_s: float | None) -> None:
        """Let a request go on, unless it could not wait for a thread.

        Args:
            call: without its body, which may name an earlier deadline or any priority.
            most_s: seconds its client waits; None for as long as it takes.

        Raises:
            QueueFull: the queue is full, or those in it take longer than there is time.
        """
        queue = self._queue
        if not queue.count:
            return
        timeout_s = min(urgency_of(call, self._deadline_s).timeout_s, math.inf if most_s is None else most_s)
        ahead, ahead_s = queue.ahead(call.client, self._most_urgent)
        waiting = queue.count
        if waiting >= self._admission.queue_size and queue.would_drop_for(call.client):
            waiting -= 1
        self._admission.expect_room(waiting, ahead, ahead_s, timeout_s)
