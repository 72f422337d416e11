"""Holds answers back while clients are told that their channel is closing: `HeldAnswers`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["HeldAnswers"]


class HeldAnswers:
    """Sends answers at once, but for the time between `hold` and `release`.

    gRPC cancels calls that come after its shutdown, until their clients know of it. Who waits for an answer
    sends nothing, and reads first that its channel is closing.
    """

    def __init__(self) -> None:
        self._held: list[Callable[[], None]] | None = None
        self._lock = threading.Lock()

    def send(self, answer: Callable[..., None], *arguments: Any) -> None:
        """Have an answer sent: call a function; may be called by any thread."""
        if self._held is not None:
            with self._lock:
                if self._held is not None:
                    self._held.append(partial(answer, *arguments))
                    return
        answer(*arguments)

    def hold(self) -> None:
        """Keep what is to be sent from now on."""
        self._held = []

    def release(self) -> None:
        """Send it."""
        with self._lock:
            held, self._held = self._held, None
        for answer in held or ():
            answer()
