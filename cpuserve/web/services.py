"""Names that clients gave to models, the same in every worker; it knows no model."""

from __future__ import annotations

import mmap

from cpuserve.errors import RequestError
from cpuserve.sharedmem.process_lock import ProcessLock

__all__ = ["Services"]

_PLACES, _NAME_BYTES = 64, 256


class Services:
    """Names that clients gave to models, in memory that all workers share; made before the fork."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, _PLACES * 2 * _NAME_BYTES))
        self._lock = ProcessLock("cpuserve-services")

    def put(self, service: str, model: str) -> None:
        """Call a model ``service`` from now on.

        Raises:
            RequestError: the name is too long or holds control characters, or there are too many.
        """
        if not service.isprintable():  # a NUL would end it in the memory
            raise RequestError(f"the service's name {service[:40]!r} holds characters that cannot be shown")
        if len(service.encode()) > _NAME_BYTES:
            raise RequestError(f"the service's name has more than {_NAME_BYTES} bytes")
        with self._lock:
            place = self._place(service)
            if place is None:
                place = self._place("")
            if place is None:
                raise RequestError(f"there are {_PLACES} services already; delete one")
            self._write(2 * place + 1, model)
            self._write(2 * place, service)

    def drop(self, service: str) -> bool:
        """Forget a name; False where there is none."""
        with self._lock:
            place = self._place(service)
            if place is not None:
                self._write(2 * place, "")
            return place is not None

    def model(self, service: str) -> str | None:
        """The model of that name, or None."""
        place = self._place(service)
        return None if place is None else self._read(2 * place + 1)

    def names(self) -> list[str]:
        """The names there are."""
        return [name for place in range(_PLACES) if (name := self._read(2 * place))]

    def _place(self, service: str) -> int | None:
        return next((place for place in range(_PLACES) if self._read(2 * place) == service), None)

    def _read(self, number: int) -> str:
        text = bytes(self._memory[number * _NAME_BYTES : (number + 1) * _NAME_BYTES])
        return text.rstrip(b"\0").decode(errors="replace")

    def _write(self, number: int, text: str) -> None:
        padded = text.encode().ljust(_NAME_BYTES, b"\0")
        self._memory[number * _NAME_BYTES : (number + 1) * _NAME_BYTES] = padded
