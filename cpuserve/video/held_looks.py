"""Looks that the small network left open, held until it is known if the reference is asked about them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpuserve.serving.decode import Pixels
    from cpuserve.video.frame import Frame
    from cpuserve.video.scale import Scale

__all__ = ["HeldLooks", "likelihood"]


def likelihood(specialised: float) -> float:
    """What looks are put in order by; without a network all are as likely, and the first comes first."""
    return 0.5 if math.isnan(specialised) else specialised


class HeldLooks:
    """The open looks at one window, of which most turn out not to be asked about: those are never scaled.

    Args:
        scale: of the reference.
        most_asked: looks at a window that the reference is asked about.
        audited: whether a frame is audited where it is spared, by its number.

    Attributes:
        window: number of the window that frames are held of; -1: of none.
    """

    def __init__(self, scale: Scale, most_asked: int, audited: Callable[[int], bool]) -> None:
        self._scale, self._most_asked, self._audited = scale, most_asked, audited
        self._frames: list[tuple[float, Frame]] = []
        self._pictures: dict[int, Pixels] = {}
        self.window = -1

    def add(self, window: int, frame: Frame, specialised: float) -> None:
        """Hold an open look."""
        self.window = window
        self._frames.append((likelihood(specialised), frame))

    def close(self, *, denied: bool) -> None:
        """All looks at the window are known.

        Args:
            denied: whether one of them says that it is negative: then none is asked about.
        """
        ordered = [frame for _, frame in sorted(self._frames, key=lambda one: one[0])]
        asked = 0 if denied else self._most_asked
        for place, frame in enumerate(ordered):
            if place < asked or self._audited(frame.number):
                self._pictures[frame.number] = frame.scaled(self._scale)
        self._frames.clear()
        self.window = -1

    def take(self) -> dict[int, Pixels]:
        """The pictures that are due, by the numbers of their frames."""
        found, self._pictures = self._pictures, {}
        return found
