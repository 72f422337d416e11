"""Reads the comments of viewers that a player shows over a video."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cpuserve.errors import UsageError

__all__ = ["MODES", "Comment", "read_comments"]

MODES = ("rtl", "ltr", "top", "bottom")
"""How a comment moves: from right to left, from left to right, or not at all."""

_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}){1,2}|[a-zA-Z]{3,30}")
_LONGEST = 500
_KEYS = frozenset(("time", "text", "colour", "color", "mode"))


@dataclass(frozen=True)
class Comment:
    """What a viewer said.

    Attributes:
        time: seconds from the beginning of the video.
        text: is shown as it is.
        colour: ``#rrggbb``, ``#rgb`` or a name of CSS.
        mode: one of `MODES`.
    """

    time: float
    text: str
    colour: str = "#ffffff"
    mode: str = "rtl"


def read_comments(file: Path) -> list[Comment]:
    """Read comments, sorted by time.

    Args:
        file: a JSON array of objects, or JSON Lines with an object a line: ``time`` in seconds and ``text``;
            ``colour`` (or ``color``) and ``mode`` may be left out.

    Raises:
        UsageError: it cannot be read, or an entry is no comment; the message says which.
    """
    try:
        content = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise UsageError(f"comments {file} cannot be read: {error.strerror}") from error
    if content.lstrip()[:1] == b"[":
        entries = enumerate(_json(content, f"comments {file}"), 1)
        found = [_comment(entry, f"{file}, entry {place}") for place, entry in entries]
    else:
        lines = [(place, line) for place, line in enumerate(content.splitlines(), 1) if line.strip()]
        found = [
            _comment(_json(line, f"{file}, line {place}"), f"{file}, line {place}") for place, line in lines
        ]
    return sorted(found, key=lambda comment: comment.time)


def _json(data: bytes, where: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON: {error}") from None


def _comment(entry: Any, where: str) -> Comment:
    """One comment.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(entry, dict) or {"time", "text"} - entry.keys():
        raise UsageError(
            f'{where}: a comment is such as {{"time": 12.5, "text": "hello", "colour": "#ffffff"}}'
        )
    if unknown := sorted(entry.keys() - _KEYS):
        raise UsageError(f"{where}: a comment has no {unknown[0]!r}; it has {', '.join(sorted(_KEYS))}")
    time, text = entry["time"], entry["text"]
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not 0 <= time < math.inf:
        raise UsageError(f"{where}: time is a number of seconds from 0 on, not {time!r:.40}")
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
        raise UsageError(f"{where}: text has 1 to {_LONGEST} characters")
    colour, mode = entry.get("colour", entry.get("color", "#ffffff")), entry.get("mode", "rtl")
    if not isinstance(colour, str) or not _COLOUR.fullmatch(colour):
        raise UsageError(f"{where}: colour is such as #ff8800 or red, not {colour!r:.40}")
    if mode not in MODES:
        raise UsageError(f"{where}: mode is one of {', '.join(MODES)}, not {mode!r:.40}")
    return Comment(float(time), text, colour, mode)
