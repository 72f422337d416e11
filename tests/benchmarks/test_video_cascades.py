"""The benchmark of cascades divides clips without changing a frame, and compares with plain skipping."""

import pytest

from benchmarks.fixtures.clip_parts import divide_clip
from cpuserve.video.decoding import frames
from cpuserve.video.scale import Scale

SMALL = Scale(16, 16, "GRAY")


@pytest.mark.parametrize("name", ["highway.avi", "street_cars.mp4"])
def test_both_parts_have_the_frames_of_the_clip(data_dir, tmp_path, name):
    clip = data_dir / "video" / name
    first, rest = tmp_path / f"first-{name}", tmp_path / f"rest-{name}"
    sizes = divide_clip(clip, 0.6, first, rest)
    assert 0.5 < sizes[0] / sum(sizes) < 0.7
    whole = [frame.scaled(SMALL).tobytes() for frame in frames(clip)]
    assert [frame.scaled(SMALL).tobytes() for part in (first, rest) for frame in frames(part)] == whole
