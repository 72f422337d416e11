"""Divides a file at keyframes into parts that can be decoded apart from each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["MINIMUM_FRAMES", "Segment", "divide"]

MINIMUM_FRAMES = 96


@dataclass(frozen=True)
class Segment:
    """A part of a file, from a keyframe to the frame before a later one.

    Attributes:
        index: its place among the segments of its file.
        start: number of its first frame.
        stop: number of the frame behind its last one.
        packet: row of its keyframe in the table of packets; 0 for the first segment.
    """

    index: int
    start: int
    stop: int
    packet: int


def divide(keyframes: Iterable[tuple[int, int]], frames: int) -> tuple[Segment, ...]:
    """The segments of a file: they depend on the file alone, not on who decodes it.

    Args:
        keyframes: row of the packet and number of the frame of each, in order.
        frames: how many frames the file has.
    """
    starts: list[tuple[int, int]] = [(0, 0)]
    for packet, number in keyframes:
        if number - starts[-1][1] >= MINIMUM_FRAMES and frames - number >= MINIMUM_FRAMES:
            starts.append((packet, number))
    stops = [*(number for _, number in starts[1:]), frames]
    return tuple(
        Segment(index, number, stop, packet)
        for index, ((packet, number), stop) in enumerate(zip(starts, stops, strict=True))
    )
