"""Locks directories and flushes them to the disk."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["sync", "sync_tree", "try_lock"]


def try_lock(directory: Path) -> int | None:
    """Lock a directory; None when another process has the lock or the directory is gone."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(directory)):  # noqa: PTH116 - pairs with fstat
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # both mean: not ours
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def sync_tree(directory: Path) -> None:
    """Flush a directory and all below it to the disk."""
    for entry in directory.rglob("*"):
        sync(entry)
    sync(directory)


def sync(path: Path) -> None:
    """Flush a file, or the list of a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
