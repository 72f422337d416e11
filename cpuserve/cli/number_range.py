"""The type of options that are numbers with a fraction."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["SEED", "NumberRange"]

SEED = click.IntRange(0, 2**63 - 1)
"""Of what is drawn by chance; records in JSON have no larger numbers."""


class NumberRange(click.FloatRange):
    """A number between two others, or any number; but no ``nan``, which is neither below nor above a limit.

    Infinity is none either: nothing that is asked for is without end.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; `click.BadParameter` where it is none, or out of range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number
