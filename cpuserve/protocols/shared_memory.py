"""Tensors in shared memory of clients on this machine: which regions are registered, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cpuserve.errors import BodyTooLarge, RequestError, UsageError
from cpuserve.protocols.call import Call, Reply, json_reply
from cpuserve.protocols.region_file import RegionFile
from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Record, Text, Word

__all__ = ["SharedMemory", "SharedMemoryRoutes", "SharedPlace"]

_PLACES, _NAME_BYTES = 64, 256
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,250}")
_OWN = ("cpuserve-", "wgunicorn-")  # copies of models, and the heartbeats of workers
_MOST = 1 << 62


class _Changes(Record):
    count = Word()  # of the regions; who has seen as many knows them all


class _Region(Record):
    name = Text(_NAME_BYTES)
    key = Text(_NAME_BYTES)
    offset = Word()
    byte_size = Word()


@dataclass(frozen=True)
class _Registered:
    """A region as a client registered it; ``key`` is the name of its file."""

    name: str
    key: str
    offset: int
    byte_size: int
    file: RegionFile


@dataclass(frozen=True)
class SharedPlace:
    """A place in shared memory of the client.

    Attributes:
        region: the name by which the client registered it.
        offset: of the place in the region.
        byte_size: of the values.
        of: what has its values there, for messages.
    """

    region: str
    offset: int
    byte_size: int
    of: str = field(default="a tensor", compare=False)

    def parameters(self) -> dict[str, str | int]:
        """The parameters by which an answer names it."""
        found: dict[str, str | int] = {
            "shared_memory_region": self.region,
            "shared_memory_byte_size": self.byte_size,
        }
        return {**found, "shared_memory_offset": self.offset} if self.offset else found


class SharedMemory:
    """The regions that clients have registered, for all workers; made before they are forked.

    A region is a part of a file that belongs to a client, see `RegionFile`. Values are copied once, into
    memory that the client cannot change while they are used.

    Args:
        prefixes: how the names of the files begin that may be registered; several with commas between.

    Raises:
        UsageError: there can be no such name, or the server's own files have it.
    """

    def __init__(self, prefixes: str) -> None:
        self._prefixes = tuple(prefixes.split(","))
        for prefix in self._prefixes:
            if not _KEY.fullmatch(prefix):
                raise UsageError(
                    f"shared_memory_prefix {prefixes!r}: write letters, digits, dots, dashes and underscores"
                )
            if any(own.startswith(prefix) or prefix.startswith(own) for own in _OWN):
                raise UsageError(f"shared_memory_prefix {prefix!r}: files of the server itself begin so")
        block = Block("cpuserve-regions", 1, _Changes, _Region, _PLACES)
        self._changes, self._rows = block.head.views["count"], block.rows
        self._lock = block.lock
        self._known: tuple[int, Mapping[str, _Registered]] = (0, {})  # after so many changes

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Register a region.

        Args:
            name: by which requests name it.
            key: the name of the shared memory, with or without a slash in front.
            offset: where the region begins in it.
            byte_size: how long it is.

        Raises:
            RequestError: the key is not allowed, its memory is not there or ends before, the name is taken,
                or there are too many regions.
        """
        if not name or not name.isprintable() or "/" in name or len(name.encode()) > _NAME_BYTES:
            raise RequestError(
                f"the name of a region has 1 to {_NAME_BYTES} bytes that can be shown, without a slash"
            )
        file = key.removeprefix("/")
        if not _KEY.fullmatch(file):
            raise RequestError(
                f"the key {key[:80]!r} is no name of shared memory: it has 1 to 250 letters, digits, "
                "dots, dashes and underscores"
            )
        if not file.startswith(self._prefixes):
            raise RequestError(
                f"the key {key[:80]!r} is not allowed: it has to begin with "
                f"{' or '.join(map(repr, self._prefixes))} (setting shared_memory_prefix)"
            )
        if not (0 <= offset < _MOST and 0 < byte_size < _MOST):
            raise RequestError(f"region {name!r}: offset {offset} and byte_size {byte_size} make no region")
        RegionFile(name, file).check(offset + byte_size)
        with self._lock:
            if self._row(name) is not None:
                raise RequestError(f"region {name!r} is registered already: unregister it first")
            row = self._row("")
            if row is None:
                raise RequestError(f"{_PLACES} regions are registered already: unregister one")
            self._changes[0] += 1
            row.key, row.offset, row.byte_size = file, offset, byte_size
            row.name = name

    def unregister(self, name: str | None = None) -> None:
        """Forget a region, or all of them; one that there is not is forgotten already."""
        with self._lock:
            self._changes[0] += 1
            for row in self._rows:
                if row.name and name in (None, row.name):
                    row.name = ""

    def regions(self, name: str | None = None) -> list[_Registered]:
        """The registered regions, or that of a name.

        Raises:
            RequestError: there is none of that name.
        """
        return list(self._registered().values()) if name is None else [self._region(name)]

    def read(self, place: SharedPlace, most_bytes: int, take_memory: Callable[[int], None]) -> memoryview:
        """A copy of what is in a place.

        Args:
            place: of the values of an input.
            most_bytes: that there may be.
            take_memory: called before memory is taken; may raise.

        Raises:
            BodyTooLarge: there are more bytes.
            RequestError: the region is not registered or too short, or its memory is gone or has shrunk.
        """
        import numpy as np  # noqa: PLC0415  # in workers only

        self.check(place, most_bytes)
        take_memory(place.byte_size)
        data = np.empty(place.byte_size, np.uint8).data  # not filled with zeros first
        self.copy(place, data)
        return data

    def check(self, place: SharedPlace, most_bytes: int) -> None:
        """Check the place of an input, as far as that can be told without its memory.

        Raises:
            BodyTooLarge: there are more bytes.
            RequestError: the region is not registered or too short.
        """
        region = self._found(place)
        if place.byte_size > most_bytes:
            raise BodyTooLarge(
                f"{place.of} has {place.byte_size} bytes in region {region.name!r}; it may have {most_bytes} "
                "(setting max_body_bytes)"
            )

    def copy(self, place: SharedPlace, target: Any, offset: int = 0) -> None:
        """Copy what is in a place, or a part of it.

        Args:
            place: of the values of an input.
            target: the array or memoryview to be filled, without gaps.
            offset: of the part, in bytes.

        Raises:
            RequestError: the region is not registered or too short, or its memory is gone or has shrunk.
        """
        region = self._found(place)
        region.file.read(target, region.offset + place.offset + offset)

    def write(self, place: SharedPlace, data: bytes) -> SharedPlace:
        """Write the values of an output; gives where they are.

        Raises:
            RequestError: they do not fit, the region is not registered, or its memory is gone, has shrunk or
                gets no room.
        """
        if len(data) > place.byte_size:
            raise RequestError(
                f"{place.of} has {len(data)} bytes; there are {place.byte_size} for it in region "
                f"{place.region!r} (parameter shared_memory_byte_size)"
            )
        region = self._found(place)
        region.file.write(data, region.offset + place.offset)
        return place if len(data) == place.byte_size else replace(place, byte_size=len(data))

    def tick(self) -> None:
        """Close what clients have unregistered or removed; called regularly."""
        for region in self._registered().values():
            region.file.close_removed()

    def _found(self, place: SharedPlace) -> _Registered:
        """The region of a place."""
        region = self._registered().get(place.region)
        if region is None:
            raise RequestError(f"{place.of}: {_unknown(place.region)}")
        if place.offset + place.byte_size > region.byte_size:
            raise RequestError(
                f"{place.of}: offset {place.offset} and {place.byte_size} bytes are outside of region "
                f"{region.name!r}, which has {region.byte_size} bytes"
            )
        return region

    def _registered(self) -> Mapping[str, _Registered]:
        changes, known = self._known
        if changes != self._changes[0]:
            with self._lock:
                known = {row.name: _copied(row) for row in self._rows if row.name}
                self._known = (self._changes[0], known)
        return known

    def _region(self, name: str) -> _Registered:
        region = self._registered().get(name)
        if region is None:
            raise RequestError(_unknown(name))
        return region

    def _row(self, name: str) -> _Region | None:
        return next((row for row in self._rows if row.name == name), None)


def _unknown(name: str) -> str:
    return f"there is no shared memory region {name[:80]!r}: register it first"


def _copied(row: _Region) -> _Registered:
    return _Registered(row.name, row.key, row.offset, row.byte_size, RegionFile(row.name, row.key))


class SharedMemoryRoutes:
    """Triton's system shared memory extension.

    Args:
        shared_memory: of the server.
    """

    def __init__(self, shared_memory: SharedMemory) -> None:
        self._shared_memory = shared_memory

    def status(self, _call: Call, name: str | None = None) -> Reply:
        """``GET .../status``: the registered regions.

        Raises:
            RequestError: there is none of that name.
        """
        return json_reply([_described(region) for region in self._shared_memory.regions(name)])

    def register(self, call: Call, name: str) -> Reply:
        """``POST .../region/NAME/register``: see `SharedMemory.register`.

        Raises:
            RequestError: the body is no object with ``key``, ``offset`` and ``byte_size``, or is refused.
        """
        match call.document():
            case {"key": str(key), **numbers} if _are_whole(numbers):
                self._shared_memory.register(name, key, numbers.get("offset", 0), numbers["byte_size"])
            case _:
                raise RequestError('a region has a "key" and whole numbers "offset" and "byte_size"')
        return Reply(200, b"", [])

    def unregister(self, _call: Call, name: str | None = None) -> Reply:
        """``POST .../unregister``: forget a region, or all of them."""
        self._shared_memory.unregister(name)
        return Reply(200, b"", [])

    def no_cuda_status(self, _call: Call, name: str | None = None) -> Reply:
        """``GET /v2/cudasharedmemory/.../status``: nothing is registered, as nothing can be.

        Raises:
            RequestError: a name was given.
        """
        if name is not None:
            raise RequestError(f"there is no CUDA shared memory region {name[:80]!r}: there is no CUDA here")
        return json_reply([])

    def no_cuda_unregister(self, _call: Call, _name: str | None = None) -> Reply:
        """``POST /v2/cudasharedmemory/.../unregister``, which clients call before they register their own."""
        return Reply(200, b"", [])


def _are_whole(document: Mapping[str, Any]) -> bool:
    return type(document.get("offset", 0)) is int and type(document.get("byte_size")) is int


def _described(region: _Registered) -> dict[str, object]:
    return {
        "name": region.name,
        "key": f"/{region.key}",
        "offset": region.offset,
        "byte_size": region.byte_size,
    }
