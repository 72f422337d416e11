"""Programs that take Ctrl-C although whoever runs the tests in the background ignores it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interruptible"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Processes that are started meanwhile do not inherit that SIGINT is ignored."""
    took = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, took)
