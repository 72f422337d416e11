"""How the integers of a quantised model stand for real numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Dequantise"]


@dataclass(frozen=True)
class Dequantise:
    """How the integers of an output become real numbers: ``(value - zero_point) * scale``."""

    scale: float
    zero_point: int
