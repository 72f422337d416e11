"""Reads the small text files of /sys and /proc; a file that is not there is None, never an error."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["format_cpulist", "parse_cpulist", "read_cpulist", "read_int", "read_text"]


def read_text(path: Path) -> str | None:
    """Return the text of ``path`` without surrounding white space, or None when it cannot be read.

    Kernel files come and go with configuration, hotplug and container masking, and reading one may fail in
    as many ways as there are drivers, so that any ``OSError`` means "this kernel does not say".
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """Return the one whole number in ``path``, or None when there is none."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def read_cpulist(path: Path) -> tuple[int, ...] | None:
    """Return the list in ``path`` (may be empty), or None when there is no such file."""
    text = read_text(path)
    return None if text is None else parse_cpulist(text)


def parse_cpulist(text: str) -> tuple[int, ...]:
    """Read the kernel's list form, such as ``0-3,8,10-11``; an empty text is an empty list.

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
    """Write numbers in the kernel's list form: ``0-3,8``; nothing is the empty text."""
    parts: list[str] = []
    ordered = sorted(set(cpus))
    start = 0
    for index, cpu in enumerate(ordered):
        if index + 1 == len(ordered) or ordered[index + 1] != cpu + 1:
            parts.append(str(cpu) if ordered[start] == cpu else f"{ordered[start]}-{cpu}")
            start = index + 1
    return ",".join(parts)
