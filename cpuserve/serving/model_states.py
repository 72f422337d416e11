"""What each worker says of its models, and which loads clients asked for, in memory all workers share."""

from __future__ import annotations

import json
import mmap
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from cpuserve.serving.shared import alive

__all__ = ["ModelStates", "Told"]

_ROW_BYTES = 64 << 10
_HEAD_BYTES = 24  # of a row: pid, length and checksum of the text
_WISHES = 64
_WISH_BYTES = 8 + 192  # generation, name
_REASON_CHARACTERS = 400
_TRIES = 20
_RETRY_S = 0.001


@dataclass(frozen=True)
class Told:
    """What one worker says of one version of a model.

    Attributes:
        name: of the model.
        version: its number; 0 for what concerns the model as a whole.
        state: "LOADING", "READY" or "UNAVAILABLE".
        reason: why it is unavailable, or why the newest files of a version are not what is served.
    """

    name: str
    version: int
    state: str
    reason: str


class ModelStates:
    """A row of text for each worker, which only that worker writes, and a ring of the latest loads asked for.

    Args:
        rows: workers that may live at the same time.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._memory = memoryview(mmap.mmap(-1, rows * _ROW_BYTES + _WISHES * _WISH_BYTES))
        self._wishes = self._memory[rows * _ROW_BYTES :]

    def tell(self, row: int, states: list[Told]) -> None:
        """Say how this process's models are; what does not fit into the row is left out."""
        entries: list[tuple[str, int, str, str]] = []
        size = 2
        for one in sorted(states, key=lambda one: one.state != "UNAVAILABLE"):  # failures are never left out
            entry = (one.name, one.version, one.state, one.reason[:_REASON_CHARACTERS])
            size += len(json.dumps(entry)) + 2
            if size > _ROW_BYTES - _HEAD_BYTES:
                break
            entries.append(entry)
        text = json.dumps(entries).encode()
        place = self._memory[row * _ROW_BYTES : (row + 1) * _ROW_BYTES]
        place[_HEAD_BYTES : _HEAD_BYTES + len(text)] = text
        place[:_HEAD_BYTES].cast("Q")[:] = memoryview(
            b"".join(number.to_bytes(8, "little") for number in (os.getpid(), len(text), zlib.crc32(text)))
        ).cast("Q")

    def told(self) -> list[Told]:
        """What all living workers say."""
        return [one for row in range(self._rows) for one in self._row(row)]

    def _row(self, row: int) -> list[Told]:
        place = self._memory[row * _ROW_BYTES : (row + 1) * _ROW_BYTES]
        for _ in range(_TRIES):
            pid, length, checksum = place[:_HEAD_BYTES].cast("Q")
            if not alive(pid):
                return []
            text = bytes(place[_HEAD_BYTES : _HEAD_BYTES + length])
            if zlib.crc32(text) == checksum:
                return [Told(*entry) for entry in json.loads(text)]
            time.sleep(_RETRY_S)  # it is being written
        return []

    def ask(self, name: str, generation: int) -> None:
        """Remember that a client asked for a model's load; the caller holds the lock of the generations."""
        place = self._wishes[generation % _WISHES * _WISH_BYTES :][:_WISH_BYTES]
        place[8:] = name.encode().ljust(_WISH_BYTES - 8, b"\0")
        place[:8].cast("Q")[0] = generation

    def asked(self, name: str, after: int, until: int) -> bool:
        """Whether a client asked for a model's load by a wish above ``after`` and up to ``until``."""
        if until - after > _WISHES:
            return True  # older wishes are overwritten: it may have been among them
        return name in self._asked(after, until)

    def _asked(self, after: int, until: int) -> Mapping[str, int]:
        found = {}
        for number in range(_WISHES):
            place = self._wishes[number * _WISH_BYTES :][:_WISH_BYTES]
            generation = place[:8].cast("Q")[0]
            if after < generation <= until:
                found[bytes(place[8:]).rstrip(b"\0").decode()] = generation
        return found
