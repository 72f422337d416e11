"""The table of models in shared memory: their states by worker, and the loads clients asked for."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Bytes, Record, Word, Words

__all__ = ["ModelReport", "ModelTable"]

_ROW_BYTES = 64 << 10
_REQUESTS = 64
_NAME_BYTES = 256
_REASON_CHARACTERS = 400
_TRIES = 20
_RETRY_S = 0.001


class _LoadRequests(Record):
    generations = Words(_REQUESTS)
    names = Bytes(_REQUESTS * _NAME_BYTES)


class _ModelTableRow(Record):
    length = Word()
    checksum = Word()  # of the text
    text = Bytes(_ROW_BYTES)


@dataclass(frozen=True)
class ModelReport:
    """The state of one version of a model in one worker.

    Attributes:
        name: of the model.
        version: its number; 0 for what concerns the model as a whole.
        state: "LOADING", "READY" or "UNAVAILABLE".
        reason: why it is unavailable, or why its newest files are not served.
    """

    name: str
    version: int
    state: str
    reason: str


class ModelTable:
    """A row of text for each worker, which only that worker writes, and a ring of the latest loads asked for.

    Args:
        rows: workers that may live at the same time.
    """

    def __init__(self, rows: int) -> None:
        self._block = Block("cpuserve-models", 1, _LoadRequests, _ModelTableRow, rows)
        self._requests = self._block.head

    def write(self, row: int, states: list[ModelReport]) -> None:
        """Write the states of this process's models; what does not fit into the row is left out."""
        entries: list[tuple[str, int, str, str]] = []
        size = 2
        for one in sorted(states, key=lambda one: one.state != "UNAVAILABLE"):  # failures are never left out
            entry = (one.name, one.version, one.state, one.reason[:_REASON_CHARACTERS])
            size += len(json.dumps(entry)) + 2
            if size > _ROW_BYTES:
                break
            entries.append(entry)
        text = json.dumps(entries).encode()
        place = self._block.rows[row]
        place.text[: len(text)] = text
        place.length, place.checksum = len(text), zlib.crc32(text)
        self._block.own(row)

    def read(self) -> list[ModelReport]:
        """The reports of all living workers."""
        return [one for row in range(len(self._block.rows)) for one in self._row(row)]

    def _row(self, row: int) -> list[ModelReport]:
        place = self._block.rows[row]
        for _ in range(_TRIES):
            if not self._block.owner(row):
                return []
            length, checksum = place.length, place.checksum
            text = bytes(place.text[:length])
            if zlib.crc32(text) == checksum:
                return [ModelReport(*entry) for entry in json.loads(text)]
            time.sleep(_RETRY_S)  # it is being written
        return []

    def ask_load(self, name: str, generation: int) -> None:
        """Remember that a client asked for a model's load; the caller holds the lock of the generations."""
        place = generation % _REQUESTS
        self._requests.names[place * _NAME_BYTES :][:_NAME_BYTES] = name.encode().ljust(_NAME_BYTES, b"\0")
        self._requests.generations[place] = generation

    def load_was_asked(self, name: str, after: int, until: int) -> bool:
        """Whether a client asked for a model's load by a request above ``after`` and up to ``until``."""
        if until - after > _REQUESTS:
            return True  # older requests are overwritten: it may have been among them
        return name in self._asked(after, until)

    def _asked(self, after: int, until: int) -> Mapping[str, int]:
        found = {}
        for number in range(_REQUESTS):
            generation = self._requests.generations[number]
            if after < generation <= until:
                name = bytes(self._requests.names[number * _NAME_BYTES :][:_NAME_BYTES])
                found[name.rstrip(b"\0").decode()] = generation
        return found
