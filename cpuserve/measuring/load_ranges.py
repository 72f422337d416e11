"""Parses ranges of loads such as ``1:32:x2`` or ``100:300:100``."""

from __future__ import annotations

import re

from cpuserve.errors import UsageError

__all__ = ["parse_range"]

_RANGE = re.compile(r"(N)(?::(N)(?::(x?)(N))?)?".replace("N", r"\d+(?:\.\d+)?"))
_MOST = 1000


def parse_range(text: str, option: str, *, whole: bool) -> list[float]:
    """Parse ``START``, ``START:END``, ``START:END:STEP`` or ``START:END:xFACTOR``.

    The end belongs to the range where a step hits it, as in perf_analyzer; the factor form is ours.

    Args:
        text: as typed.
        option: for the message.
        whole: whether the values are whole numbers.

    Raises:
        UsageError: it is no range, or it holds no value or too many.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{option} {text}: write START:END:STEP or START:END:xFACTOR, as 1:32:x2")
    start, end, step = float(found[1]), float(found[2] or found[1]), float(found[4] or 1)
    grows = step > (1 if found[3] else 0)
    if not 0 < start <= end or not grows or (whole and any(v % 1 for v in (start, end, step))):
        numbers = "whole numbers" if whole else "numbers"
        raise UsageError(
            f"{option} {text}: {numbers} above 0, END at least START, a step above 0 (xFACTOR above 1)"
        )
    values = [start]
    while len(values) <= _MOST:
        value = values[-1] * step if found[3] else start + len(values) * step
        if value > end:
            return values
        values.append(value)
    raise UsageError(f"{option} {text}: more than {_MOST} values; take a larger step")
