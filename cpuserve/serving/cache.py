"""Answers that were given, by the content of their questions, in bounded memory; it computes none."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from cpuserve.serving.engine import Array

__all__ = ["ENTRY_BYTES", "Kept", "ResultCache", "digest"]

Kept = bytes | tuple[Array, ...]
"""A packed answer, or tensors that nobody may write to."""

ENTRY_BYTES = 512
"""What an entry takes beside the data of its answer: its key, its place in the order, the objects' heads."""


def digest(words: Sequence[object], contents: Iterable[bytes | bytearray | memoryview | Array]) -> bytes:
    """A key that no other question has: SHA-256 over what is asked and over what was sent.

    Args:
        words: what changes the answer beside the contents.
        contents: pictures or tensors; their lengths, types and shapes belong to the key.
    """
    found = hashlib.sha256(repr(tuple(words)).encode())
    for content in contents:
        if isinstance(content, np.ndarray):
            found.update(f"|{content.dtype.str}{content.shape}|".encode())
            found.update(np.ascontiguousarray(content).data)
        else:
            found.update(b"|%d|" % len(content))
            found.update(content)
    return found.digest()


class ResultCache:
    """Answers of one version of a model in one worker; those not asked for longest make room.

    Args:
        limit_bytes: of all answers, with what it takes to keep them.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """What is taken of the limit."""
        return self._bytes

    def get(self, key: bytes) -> Kept | None:
        """The answer, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: bytes, answer: Kept) -> None:
        """Keep an answer, unless it is larger than all may be together."""
        size = _size(answer)
        if size > self.limit_bytes:
            return
        with self._lock:
            before = self._kept.pop(key, None)  # two threads may have computed it at the same time
            self._bytes += size - (0 if before is None else _size(before))
            self._kept[key] = answer
            while self._bytes > self.limit_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= _size(oldest)


def _size(answer: Kept) -> int:
    if isinstance(answer, bytes):
        return ENTRY_BYTES + len(answer)
    return ENTRY_BYTES * (1 + len(answer)) + sum(array.nbytes for array in answer)
