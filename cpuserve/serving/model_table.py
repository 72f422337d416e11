"""What each worker says of its models, and which loads clients asked for, in memory all workers share."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Bytes, Record, Word, Words

__all__ = ["ModelStates", "Told"]

_ROW_BYTES = 64 << 10
_WISHES = 64
_NAME_BYTES = 256
_REASON_CHARACTERS = 400
_TRIES = 20
_RETRY_S = 0.001


class _Wishes(Record):
    generations = Words(_WISHES)
    names = Bytes(_WISHES * _NAME_BYTES)


class _Row(Record):
    length = Word()
    checksum = Word()  # of the text
    text = Bytes(_ROW_BYTES)


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
        self._block = Block("cpuserve-models", 1, _Wishes, _Row, rows)
        self._wishes = self._block.head

    def tell(self, row: int, states: list[Told]) -> None:
        """Say how this process's models are; what does not fit into the row is left out."""
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

    def told(self) -> list[Told]:
        """What all living workers say."""
        return [one for row in range(len(self._block.rows)) for one in self._row(row)]

    def _row(self, row: int) -> list[Told]:
        place = self._block.rows[row]
        for _ in range(_TRIES):
            if not self._block.owner(row):
                return []
            length, checksum = place.length, place.checksum
            text = bytes(place.text[:length])
            if zlib.crc32(text) == checksum:
                return [Told(*entry) for entry in json.loads(text)]
            time.sleep(_RETRY_S)  # it is being written
        return []

    def ask(self, name: str, generation: int) -> None:
        """Remember that a client asked for a model's load; the caller holds the lock of the generations."""
        place = generation % _WISHES
        self._wishes.names[place * _NAME_BYTES :][:_NAME_BYTES] = name.encode().ljust(_NAME_BYTES, b"\0")
        self._wishes.generations[place] = generation

    def asked(self, name: str, after: int, until: int) -> bool:
        """Whether a client asked for a model's load by a wish above ``after`` and up to ``until``."""
        if until - after > _WISHES:
            return True  # older wishes are overwritten: it may have been among them
        return name in self._asked(after, until)

    def _asked(self, after: int, until: int) -> Mapping[str, int]:
        found = {}
        for number in range(_WISHES):
            generation = self._wishes.generations[number]
            if after < generation <= until:
                name = bytes(self._wishes.names[number * _NAME_BYTES :][:_NAME_BYTES])
                found[name.rstrip(b"\0").decode()] = generation
        return found
