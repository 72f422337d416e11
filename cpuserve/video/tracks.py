"""Gives boxes the number of their track and the names of their zones, by supervision and trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cpuserve.errors import MissingExtra, pip_install
from cpuserve.serving.postprocess import Answer
from cpuserve.video.region import Region

__all__ = ["Tracks", "Zones", "to_supervision"]

_PLACE = "place"  # where a box was in the answer: trackers put boxes into another order
_NO_TRACK = -1
_NO_DEPS = (
    "--track needs trackers, without its dependency opencv-python, which would overwrite the files of "
    "opencv-python-headless"
)


def to_supervision(answer: Answer) -> Any:
    """The boxes of an answer as `supervision.Detections`, for its zones, annotators and trackers.

    Args:
        answer: as of ``/predictions/MODEL``; one without boxes gives none.

    Returns:
        xyxy f32 [n, 4] in pixels of the frame, confidence, class_id, and ``data`` with ``class_name`` and
        ``place``, the place of each box in the answer; tracker_id where the boxes were tracked.

    Raises:
        MissingExtra: supervision is not installed.
    """
    try:
        import supervision  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise MissingExtra("boxes for tracks and zones need supervision", "zones") from error
    rows: Sequence[Mapping[str, Any]] = answer.get("detections", ())
    if not rows:
        return supervision.Detections.empty()
    tracks = [row.get("track_id") for row in rows]
    numbers = [_NO_TRACK if track is None else track for track in tracks]
    return supervision.Detections(
        xyxy=np.array([row["box"] for row in rows], np.float32),
        confidence=np.array([row["probability"] for row in rows], np.float32),
        class_id=np.array([row["class_id"] for row in rows], np.int64),
        tracker_id=np.array(numbers) if any(track is not None for track in tracks) else None,
        data={"class_name": np.array([row["label"] for row in rows]), _PLACE: np.arange(len(rows))},
    )


class Tracks:
    """Follows the boxes of one video from frame to frame with ByteTrack, as `trackers` has it.

    Args:
        frame_rate: how many frames a second it is given.

    Raises:
        MissingExtra: supervision or trackers is not installed.
    """

    def __init__(self, frame_rate: float) -> None:
        to_supervision({})  # trackers imports it as well
        try:
            from trackers import ByteTrackTracker  # noqa: PLC0415  # of no extra
        except ImportError as error:
            raise MissingExtra(_NO_DEPS, "", pip_install("--no-deps trackers")) from error
        self._tracker = ByteTrackTracker(frame_rate=frame_rate)

    def add(self, answer: Answer, time_s: float) -> None:
        """Give each box of the next frame its ``track_id``; None for a box that belongs to no track yet.

        Args:
            answer: its boxes get the numbers.
            time_s: time of the frame, later than that of the one before.
        """
        rows = answer.get("detections", ())
        for row in rows:
            row["track_id"] = None
        found: Any = self._tracker.update(to_supervision(answer), timestamp=time_s)
        if len(found):
            for place, track in zip(found.data[_PLACE].tolist(), found.tracker_id.tolist(), strict=True):
                rows[place]["track_id"] = None if track == _NO_TRACK else int(track)


class Zones:
    """Says in which zones of the frame the boxes stand, by the middle of their lower edge.

    Args:
        regions: the zones by name, in shares of the frame.

    Raises:
        MissingExtra: supervision is not installed.
    """

    def __init__(self, regions: Mapping[str, Region]) -> None:
        try:
            import supervision  # noqa: PLC0415  # of an extra
        except ImportError as error:
            raise MissingExtra("boxes for tracks and zones need supervision", "zones") from error
        self._make = supervision.PolygonZone
        self._regions = regions
        self._size = 0, 0
        self._zones: dict[str, Any] = {}

    def add(self, answer: Answer, width: int, height: int) -> None:
        """Give each box the names of its ``zones``, and the answer the number of boxes in each.

        Args:
            answer: of a frame; one without boxes stays as it is.
            width: of the frame.
            height: of the frame.
        """
        if "detections" not in answer:
            return
        if self._size != (width, height):
            self._size = width, height
            self._zones = {
                name: self._make(np.rint(np.array(region.corners) * [width, height]).astype(np.int64))
                for name, region in self._regions.items()
            }
        rows, found = answer["detections"], to_supervision(answer)
        for row in rows:
            row["zones"] = []
        counts = dict.fromkeys(self._zones, 0)
        for name, zone in self._zones.items():
            inside = np.flatnonzero(zone.trigger(found)).tolist() if rows else []
            counts[name] = len(inside)
            for place in inside:
                rows[place]["zones"].append(name)
        answer["zones"] = counts
