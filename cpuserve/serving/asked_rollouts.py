"""Rollouts that clients gave with a load, in memory that all workers share."""

from __future__ import annotations

from cpuserve.errors import RequestError
from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Record, Text, Word

__all__ = ["AskedRollouts"]

_MODELS = 256  # that may have one at a time
_NAME_BYTES, _TEXT_BYTES = 256, 4 << 10


class _AskedRolloutsHead(Record):
    used = Word()  # rows that were ever taken


class _AskedRollout(Record):
    name = Text(_NAME_BYTES)
    text = Text(_TEXT_BYTES)


class AskedRollouts:
    """The text of a rollout by model, as it came with the latest load of the model."""

    def __init__(self) -> None:
        self._block = Block("cpuserve-rollouts", 1, _AskedRolloutsHead, _AskedRollout, _MODELS)

    def put(self, name: str, text: str) -> None:
        """Keep the rollout of a model; an empty text forgets it.

        Raises:
            RequestError: the text is too long, or too many models have one.
        """
        if len(text.encode()) > _TEXT_BYTES:
            raise RequestError(f"the config of a load has at most {_TEXT_BYTES} bytes")
        with self._block.lock:
            rows = self._block.rows
            place = next((row for row in rows if row.name == name), None)
            if place is None and text:
                place = next((row for row in rows if not row.name), None)
                if place is None:
                    raise RequestError(
                        f"{_MODELS} models have a config by load, the limit of a server: load one without"
                    )
                self._block.head.used = max(self._block.head.used, rows.index(place) + 1)
            if place is not None:
                place.name, place.text = (name if text else ""), text

    def get(self, name: str) -> str:
        """The rollout of a model; empty where it has none."""
        used = self._block.head.used
        if not used:
            return ""
        with self._block.lock:
            return next((row.text for row in self._block.rows[:used] if row.name == name), "")
