"""Memory in which a decoder process hands pictures to the process that asked for them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cpuserve.serving.decode import Pixels

__all__ = ["PictureSlots", "Placed", "SlotViews"]

Placed = dict[str, tuple[tuple[int, ...], int]]
"""Shape and offset in the memory of each picture, by its name."""

_PAGE = mmap.PAGESIZE
_ALIGNED = 64
_FEWEST, _MOST = 2, 1024
_TOLD = 8  # numbers in the first page
_NUMBER = np.dtype(np.int64)


class PictureSlots:
    """The writing side. Each slot holds the pictures of one frame until the reader frees it.

    The first page holds numbers that the reader may look at any time, also when this process has ended.

    Args:
        memory: descriptor of a memory file, which grows when it is needed.
        most_bytes: of all slots together. Two slots are made however large they are.
    """

    def __init__(self, memory: int, most_bytes: int) -> None:
        self._memory = memory
        self._most_bytes = most_bytes
        os.ftruncate(memory, _PAGE)
        self._map = mmap.mmap(memory, _PAGE)
        self._told = np.frombuffer(self._map, _NUMBER, _TOLD)
        self._slot_bytes = 0
        self._first, self._size = 0, _PAGE
        self._free: list[int] = []

    def tell(self, number: int, place: int = 0) -> None:
        """Let the reader see a number, such as that of the present frame, also when this process ends."""
        self._told[place] = number

    def told(self, place: int = 0) -> int:
        """The number that the reader sees."""
        return int(self._told[place])

    def try_put(self, pictures: Mapping[str, Pixels]) -> tuple[int, Placed] | None:
        """Copy pictures into a slot; None when none is free."""

        def fail() -> int:
            raise BlockingIOError

        try:
            return self.put(pictures, fail)
        except BlockingIOError:
            return None

    def put(self, pictures: Mapping[str, Pixels], wait: Callable[[], int]) -> tuple[int, Placed]:
        """Copy pictures into a free slot.

        Args:
            pictures: u8 arrays.
            wait: gives the number of a slot that the reader has freed, as soon as there is one.

        Returns:
            The slot, and where the pictures are.
        """
        needed = sum(-(-pixels.nbytes // _ALIGNED) * _ALIGNED for pixels in pictures.values())
        if needed > self._slot_bytes:
            self._enlarge(needed)
        while not self._free:
            self.free(wait())
        slot = self._free.pop()
        offset = slot * _PAGE
        placed: Placed = {}
        for name, pixels in pictures.items():
            placed[name] = (pixels.shape, offset)
            target = np.frombuffer(self._map, np.uint8, pixels.size, offset).reshape(pixels.shape)
            target[...] = pixels
            offset += -(-pixels.nbytes // _ALIGNED) * _ALIGNED
        return slot, placed

    def free(self, slot: int) -> None:
        """Use a slot again, unless larger ones have replaced it."""
        if slot * _PAGE >= self._first:
            self._free.append(slot)

    def _enlarge(self, needed: int) -> None:
        """Make larger slots behind the present ones, whose memory goes as they are freed."""
        self._slot_bytes = -(-needed // _PAGE) * _PAGE
        count = max(_FEWEST, min(_MOST, self._most_bytes // self._slot_bytes))
        self._first, self._size = self._size, self._size + count * self._slot_bytes
        os.ftruncate(self._memory, self._size)
        self._map = mmap.mmap(self._memory, self._size)
        self._told = np.frombuffer(self._map, _NUMBER, _TOLD)
        # a slot's number is its page; the last one is used first, and again while it is in the CPU's cache
        self._free = [(self._first + place * self._slot_bytes) // _PAGE for place in range(count)][::-1]


class SlotViews:
    """The reading side: views of pictures where they are."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._map: mmap.mmap | None = None

    def pictures(self, placed: Placed) -> dict[str, Pixels]:
        """Views of the pictures of one slot. They keep the memory, but the writer may write to it again."""
        found = {}
        for name, (shape, offset) in placed.items():
            size = int(np.prod(shape))
            mapped = self._mapped(offset + size)
            found[name] = np.frombuffer(mapped, np.uint8, size, offset).reshape(shape)
        return found

    def told(self, place: int = 0) -> int:
        """The number that the writer tells; 0 where it has told none yet."""
        if self._map is None and os.fstat(self._memory).st_size < _PAGE:
            return 0
        return int(np.frombuffer(self._mapped(_PAGE), _NUMBER, _TOLD)[place])

    def _mapped(self, end: int) -> mmap.mmap:
        if self._map is None or len(self._map) < end:
            size = os.fstat(self._memory).st_size
            self._map = mmap.mmap(self._memory, size)
        return self._map
