"""What a running server says of itself to those who run it; it answers no model's requests."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from cpuserve.errors import RequestError
from cpuserve.machine.diagnose import diagnose, sample
from cpuserve.machine.files import read_text
from cpuserve.web.board import Board
from cpuserve.web.exchange import Call, Reply, json_reply
from cpuserve.web.log import Switches
from cpuserve.web.running import roster

__all__ = ["Admin"]

_FRESH_S = 0.5


class Admin:
    """The routes about the server itself.

    Args:
        board: the server's; None for an application that runs outside of one.
        switches: the server's log.
    """

    def __init__(self, board: Board | None, switches: Switches) -> None:
        self._switches = switches
        self._board = board
        self._lock = threading.Lock()
        self._before = sample(roster(board, {})) if board is not None else None
        self._answer: dict[str, Any] | None = None
        self._made = 0.0

    def logging(self, call: Call) -> Reply:
        """``GET`` and ``POST /v2/logging``: the log settings of all workers, after what the body changes.

        Raises:
            RequestError: the body is no JSON object, or holds what cannot be set.
        """
        if call.header("REQUEST_METHOD") == "POST":
            try:
                self._switches.change(call.document())
            except ValueError as error:
                raise RequestError(str(error)) from None
        return json_reply(self._switches.read())

    def placement(self, _call: Call) -> Reply:
        """``GET /v2/placement``: plan against fact for all workers, as `cpuserve doctor --json` writes it.

        An answer is used again for half a second, since reading where pages are takes the worker's time. The
        sample window reaches back to the answer before.
        """
        with self._lock:
            now = time.monotonic()
            if self._answer is None or now - self._made >= _FRESH_S:
                self._answer = self._diagnose()
                self._made = time.monotonic()
            return json_reply(self._answer)

    def _diagnose(self) -> dict[str, Any]:
        if self._board is None:
            return diagnose(None)
        arbiter = os.getppid()
        children = read_text(Path(f"/proc/{arbiter}/task/{arbiter}/children")) or ""
        who = roster(self._board, {pid: pid for pid in (arbiter, *map(int, children.split()))})
        after = sample(who)
        answer = diagnose(who, self._before)
        self._before = after
        return answer
