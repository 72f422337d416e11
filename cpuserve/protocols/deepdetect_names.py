"""The second names that clients gave to models, shared by all workers."""

from __future__ import annotations

from cpuserve.errors import RequestError
from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Record, Text

__all__ = ["DeepDetectNames"]

_PLACES, _NAME_BYTES = 64, 256


class _Service(Record):
    name = Text(_NAME_BYTES)
    model = Text(_NAME_BYTES)


class DeepDetectNames:
    """Second names of models, in shared memory; made before the workers are forked."""

    def __init__(self) -> None:
        block = Block("cpuserve-services", 1, Record, _Service, _PLACES)
        self._rows = block.rows
        self._lock = block.lock

    def put(self, service: str, model: str) -> None:
        """Give a model the second name ``service``.

        Raises:
            RequestError: the name is too long or holds control characters, or there are too many.
        """
        if not service.isprintable():  # a NUL would end it in the memory
            raise RequestError(f"the service's name {service[:40]!r} holds characters that cannot be shown")
        if len(service.encode()) > _NAME_BYTES:
            raise RequestError(f"the service's name has more than {_NAME_BYTES} bytes")
        with self._lock:
            row = self._row(service) or self._row("")
            if row is None:
                raise RequestError(f"there are {_PLACES} services already; delete one")
            row.model = model
            row.name = service

    def drop(self, service: str) -> bool:
        """Remove a name; False where there is none."""
        with self._lock:
            row = self._row(service)
            if row is not None:
                row.name = ""
            return row is not None

    def model(self, service: str) -> str | None:
        """The model with that second name, or None."""
        row = self._row(service)
        return None if row is None else row.model

    def names(self) -> list[str]:
        """All second names."""
        return [name for row in self._rows if (name := row.name)]

    def _row(self, service: str) -> _Service | None:
        return next((row for row in self._rows if row.name == service), None)
