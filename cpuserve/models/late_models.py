"""Waits for models that come after the server has started."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["wait_for_models"]

_MODE, _LATE = "MODEL_INIT_MODE", "async"
_LOOK_S = 0.2
_SAY_S = 10.0


def wait_for_models(place: Path, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Wait until a directory has something in it, where KServe says that it may come later.

    KServe can show a model from an image of its own (a modelcar): ``/mnt/models`` is a link into the file
    system of a container that may start after this one. KServe then sets ``MODEL_INIT_MODE`` to ``async``
    (https://github.com/kserve/kserve/pull/3110). Elsewhere a directory that is not there is a mistake, for
    which nobody waits. SIGTERM ends the process with 0.

    Args:
        place: the model, or the repository.
        environ: the process's environment.
        say: told at the beginning, and again every 10 s.
    """
    if environ.get(_MODE) != _LATE or _missing(place) is None:
        return
    with _ending_on_sigterm():
        due = 0.0
        while (why := _missing(place)) is not None:
            if (now := time.monotonic()) >= due:
                due = now + _SAY_S
                say(f"waiting for models in {place} ({why}), which come later by {_MODE}={_LATE}")
            time.sleep(_LOOK_S)


def _missing(place: Path) -> str | None:
    """Why a place has nothing yet; None where it has something."""
    try:
        if stat.S_ISREG(place.stat().st_mode):
            return None
        with os.scandir(place) as found:
            return None if any(found) else "it is empty"
    except PermissionError:
        # a link into the file system of another container is for root, or for a container of the same user
        return f"user {os.geteuid()} may not read it; KServe's setting uidModelcar is whose the models are"
    except OSError as error:  # a link whose end is not there yet
        return (error.strerror or str(error)).lower()


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """The first process of a container ignores signals that it has no handler for."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
