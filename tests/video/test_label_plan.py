"""Long videos are labelled in minutes spread over their time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from cpuserve.errors import UsageError
from cpuserve.video.label_plan import Stretch, plan_stretches
from cpuserve.video.segments import Segment
from cpuserve.video.video_file import VideoFile


def made_video(frames: int, segment: int = 50) -> VideoFile:
    """What a plan reads of a video."""
    starts = range(0, frames, segment)
    segments = [
        Segment(place, start, min(start + segment, frames), start) for place, start in enumerate(starts)
    ]
    return cast(VideoFile, SimpleNamespace(frames=frames, frame_rate=25.0, segments=segments))


def test_short_videos_are_labelled_whole():
    assert plan_stretches([made_video(900), made_video(100)], 1000) == [
        Stretch(0, 0, 900),
        Stretch(1, 0, 100),
    ]


def test_of_long_videos_minutes_are_spread_over_the_time():
    videos = [made_video(90_000), made_video(45_000)]
    found = plan_stretches(videos, 13_500)
    by_video = [[stretch for stretch in found if stretch.video == place] for place in (0, 1)]
    for stretches, share in zip(by_video, (9000, 4500), strict=True):
        labelled = sum(stretch.stop - stretch.start for stretch in stretches)
        assert 0.8 * share <= labelled <= share
    first = by_video[0]
    assert len(first) == 6
    assert first[0].start < 15_000
    assert first[-1].stop > 75_000
    starts = {segment.start for segment in videos[0].segments}
    assert all(stretch.start in starts for stretch in first)


def test_a_video_of_one_segment_is_labelled_from_its_start():
    assert plan_stretches([made_video(50_000, 50_000)], 2000) == [Stretch(0, 0, 2000)]


def test_no_frame_is_refused():
    with pytest.raises(UsageError, match="--most-labels is 0"):
        plan_stretches([made_video(100)], 0)
