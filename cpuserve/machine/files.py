"""Reads the small text files of /sys and /proc; a missing file is None. Names any file in a text."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["format_cpulist", "parse_cpulist", "read_cpulist", "read_int", "read_text", "text_of_path"]


def read_text(path: Path) -> str | None:
    """Return the text of ``path`` without surrounding white space, or None when it cannot be read.

    Which kernel files exist depends on configuration, hotplug and containers, and each driver fails in its
    own way. So any ``OSError`` means that the kernel does not tell.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def text_of_path(path: Path | str) -> str:
    r"""A path that can be written as UTF-8: bytes of a name that are none are escaped, as in ``\xff.png``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_int(path: Path) -> int | None:
    """Return the whole number in ``path``, or None when there is none."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def read_cpulist(path: Path) -> tuple[int, ...] | None:
    """Return the list in ``path``, which may be empty, or None when there is no such file."""
    text = read_text(path)
    return None if text is None else parse_cpulist(text)


def parse_cpulist(text: str) -> tuple[int, ...]:
    """Read a list such as ``0-3,8,10-11``, as the kernel writes it; an empty text is an empty list.

    Returns:
        The numbers in rising order, each once.

    Raises:
        ValueError: the text is not a list of numbers and ranges.
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        if not part.strip():
            continue
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"not a CPU list: {text!r} (write it as 0-3,8)")
        low, high = int(first), int(last or first)
        if high < low:
            raise ValueError(f"not a CPU list: {text!r} ({part.strip()} runs backwards)")
        numbers.update(range(low, high + 1))
    return tuple(sorted(numbers))


def format_cpulist(cpus: Iterable[int]) -> str:
    """Write numbers as a list such as ``0-3,8``, as the kernel does; no numbers are the empty text."""
    parts: list[str] = []
    ordered = sorted(set(cpus))
    start = 0
    for index, cpu in enumerate(ordered):
        if index + 1 == len(ordered) or ordered[index + 1] != cpu + 1:
            parts.append(str(cpu) if ordered[start] == cpu else f"{ordered[start]}-{cpu}")
            start = index + 1
    return ",".join(parts)
