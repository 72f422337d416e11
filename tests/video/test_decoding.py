import numpy as np
import pytest

from cpuserve.errors import VideoError
from cpuserve.video.decoding import StageResult, decode, frames
from cpuserve.video.scale import Scale

SMALL = Scale(50, 40, "BGR", "area")


class Means:
    """Gives the mean of each frame, and every frame's small picture."""

    def start(self, video, segment):
        self.segment = segment

    def __call__(self, frame):
        assert self.segment.start <= frame.number < self.segment.stop
        pixels = frame.scaled(SMALL)
        return StageResult(float(pixels.mean()), {"small": pixels})


def test_a_stage_runs_on_every_frame_in_order(data_dir):
    file = data_dir / "video" / "street_cars.mp4"
    wanted = [(f.number, f.pts, f.time_s, f.scaled(SMALL)) for f in frames(file, stop=120)]
    found = [(d.number, d.pts, d.time_s, d.pictures["small"].copy()) for d in decode(file, Means(), stop=120)]
    assert [one[:3] for one in found] == [one[:3] for one in wanted]
    assert [one[0] for one in found] == list(range(120))
    assert all(np.array_equal(one[3], other[3]) for one, other in zip(found, wanted, strict=True))


def test_a_text_file_is_refused_by_its_name(tmp_path):
    file = tmp_path / "notes.mp4"
    file.write_text("no video")
    with pytest.raises(VideoError, match=r"notes\.mp4"):
        next(frames(file))
