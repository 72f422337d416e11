"""Named fields over a piece of memory, declared as the attributes of a class.

    class WorkerRow(Record):
        pid = Word()
        samples = Words(4)
        name = Text(64)

Fields lie in the order of their declaration; each begins at a multiple of 8 bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, overload

__all__ = ["Bytes", "Field", "Floats", "Record", "Text", "Word", "Words"]

T = TypeVar("T")
_ALIGNED = 8


class Field(Generic[T]):
    """One named field: ``count`` items of a format of `struct`.

    Args:
        count: how many items.
    """

    format: ClassVar[Literal["Q", "d", "B"]]
    width: ClassVar[int] = 8

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.name = ""
        self.start = 0  # in words of 8 bytes; set by the record

    @property
    def size(self) -> int:
        """Bytes it takes, with padding."""
        return -(-self.count * self.width // _ALIGNED) * _ALIGNED

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name


class Word(Field[int]):
    """A whole number from 0 to 2**64 - 1."""

    format = "Q"

    def __init__(self) -> None:
        super().__init__(1)

    @overload
    def __get__(self, record: None, owner: type) -> Self: ...
    @overload
    def __get__(self, record: Record, owner: type) -> int: ...
    def __get__(self, record: Record | None, owner: type) -> int | Self:
        return self if record is None else record.words[self.start]

    def __set__(self, record: Record, value: int) -> None:
        record.words[self.start] = value


class _Viewed(Field[T], ABC):
    """A field whose value is made of a view of its memory."""

    @overload
    def __get__(self, record: None, owner: type) -> Self: ...
    @overload
    def __get__(self, record: Record, owner: type) -> T: ...
    def __get__(self, record: Record | None, owner: type) -> T | Self:
        return self if record is None else self._read(record.views[self.name])

    @abstractmethod
    def _read(self, view: memoryview) -> T: ...


class Words(_Viewed[memoryview]):
    """Whole numbers from 0 to 2**64 - 1, as a view."""

    format = "Q"

    def _read(self, view: memoryview) -> memoryview:
        return view


class Floats(_Viewed["memoryview[float]"]):
    """Floating-point numbers of 64 bits, as a view."""

    format = "d"

    def _read(self, view: memoryview) -> memoryview[float]:
        return view  # type: ignore[return-value]  # cast to "d"


class Bytes(_Viewed[memoryview]):
    """Bytes, as a view."""

    format, width = "B", 1

    def _read(self, view: memoryview) -> memoryview:
        return view


class Text(_Viewed[str]):
    """Text of at most ``count`` bytes of UTF-8, none of them 0."""

    format, width = "B", 1

    def _read(self, view: memoryview) -> str:
        return bytes(view).rstrip(b"\0").decode(errors="replace")

    def __set__(self, record: Record, value: str) -> None:
        """Write the text.

        Raises:
            ValueError: it is too long.
        """
        data = value.encode()
        if len(data) > self.count:
            raise ValueError(f"{self.name} has {len(data)} bytes, more than {self.count}")
        record.views[self.name][: self.count] = data.ljust(self.count, b"\0")


class Record:
    """A piece of memory with the fields that the class declares.

    Args:
        memory: as many bytes as the fields take.

    Attributes:
        views: the memory of each field, by name.
        words: all of the memory, as words of 8 bytes.
    """

    fields: ClassVar[tuple[Field[Any], ...]] = ()
    size: ClassVar[int] = 0

    def __init_subclass__(cls) -> None:
        own = tuple(field for field in vars(cls).values() if isinstance(field, Field))
        cls.fields = (*cls.fields, *own)
        for field in own:
            field.start = cls.size // _ALIGNED
            cls.size += field.size

    def __init__(self, memory: memoryview) -> None:
        self.views: dict[str, memoryview[Any]] = {}
        self.words: memoryview[int] = memory.cast("Q") if memory.nbytes else memory  # nothing cannot be cast
        for field in self.fields:
            start = field.start * _ALIGNED
            items = memory[start : start + field.count * field.width]
            self.views[field.name] = items if field.format == "B" else items.cast(field.format)
        self._memory = memory

    @classmethod
    def described(cls) -> Iterable[str]:
        """Each field as text, to tell one layout from another."""
        return (f"{field.name}:{field.count}{field.format}" for field in cls.fields)

    def clear(self) -> None:
        """Set every byte to 0."""
        self._memory[:] = bytes(len(self._memory))
