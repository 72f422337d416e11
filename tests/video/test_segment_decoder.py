"""Every kind of video that can be made here: its segments give what decoding from the start gives."""

from __future__ import annotations

import hashlib

import av
import numpy as np
import pytest

from cpuserve.video import segments
from cpuserve.video.decoding import frames
from cpuserve.video.picture_scaler import PictureScaler
from cpuserve.video.segment_decoder import FrameChoice, SegmentDecoder, SegmentEnd
from cpuserve.video.video_file import probe
from tests.made_videos import make_video, shown_number
from tests.video.stages import SMALL, digest

ALL = FrameChoice(1, 0, 1 << 62)
PIXELS = 1 << 22
OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0"}
HEVC = "open-gop=1:keyint=30:min-keyint=30:scenecut=0:bframes=4:log-level=none:pools=none:frame-threads=1"
LAG = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "16", "auto-alt-ref": "1"}
VFR = [number * 1000 + number % 7 * 90 + (9000 if number > 70 else 0) for number in range(130)]
KINDS = {
    "closed.mp4": {"options": {"x264-params": "open-gop=0"}},
    "open.mp4": {"options": OPEN},
    "open.mkv": {"options": OPEN},
    "open.ts": {"options": OPEN},
    "open.h264": {"options": OPEN},
    "open.avi": {"options": OPEN},
    "pyramid.mp4": {"options": {"x264-params": "bframes=5:b-pyramid=normal:b-adapt=0:ref=4"}},
    "fields.mp4": {"options": {"x264-params": "interlaced=1:bframes=2", "flags": "+ildct"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "variable.mp4": {"pts": VFR, "options": {"x264-params": "bframes=3"}},
    "variable.mkv": {"pts": VFR, "options": {"x264-params": "bframes=3"}},
    "flash.flv": {"options": {"x264-params": "bframes=3"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": HEVC}},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 0},
    "mpeg4_b.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4_b.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "mpeg2.ts": {"codec": "mpeg2video", "b_frames": 2},
    "vp8.webm": {"codec": "libvpx", "options": LAG},
    "vp9.webm": {"codec": "libvpx-vp9", "options": LAG},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "raw.avi": {"codec": "rawvideo"},
    "ffv1.mkv": {"codec": "ffv1"},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "windows.wmv": {"codec": "wmv2"},
    "one_keyframe.gif": {"codec": "gif", "pixel_format": "rgb8"},
}


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "MINIMUM_FRAMES", 20)


def sequential(file) -> list[str]:
    """What PyAV gives of a file from the start to the end."""
    scaler = PictureScaler()
    with av.open(str(file)) as container:
        pictures = container.decode(video=0)
        scaled = (np.ascontiguousarray(scaler.scale(picture, SMALL)) for picture in pictures)
        return [hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in scaled]


def by_segments(file, which="all") -> list[tuple[int, str]]:
    """What the segments give, decoded from the last to the first, each by itself."""
    video = probe(file)
    decoder = SegmentDecoder(video, which, PIXELS)
    found: list[list[tuple[int, str]]] = []
    base = {0: 0}
    order = reversed(video.segments) if video.ordered else video.segments
    for segment in order:
        end = SegmentEnd()
        given = decoder.decode(segment, segment, end, base.get(segment.index, 0), ALL)
        found.append([(frame.number, digest(frame)) for frame in given])
        base[segment.index + 1] = base.get(segment.index, 0) + end.frames
        assert (end.apart, end.undecodable) == (True, [])
    decoder.close()
    if video.ordered:
        found.reverse()
    return [one for segment in found for one in segment]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")

    def get(name):
        file = folder / name
        return file if file.exists() else make_video(file, frames=130, **KINDS[name])

    return get


@pytest.mark.parametrize("name", KINDS)
def test_segments_give_the_numbers_and_pixels_of_sequential_decoding(made, name):
    file = made(name)
    wanted = sequential(file)
    assert len(wanted) == 130
    video = probe(file)
    assert len(video.segments) > 3 or name == "one_keyframe.gif"
    assert by_segments(file) == list(enumerate(wanted))
    assert [shown_number(frame.scaled(SMALL)) for frame in frames(video)] == list(range(130))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("which", ["nonref", "nonkey"])
def test_frames_that_are_left_out_change_no_number(made, name, which):
    file = made(name)
    wanted = dict(enumerate(sequential(file)))
    found = dict(by_segments(file, which))
    assert found
    assert found == {number: wanted[number] for number in found}
    if which == "nonkey" and probe(file).ordered:
        assert list(found) == np.flatnonzero(probe(file).key).tolist()


@pytest.mark.parametrize("name", ["open.mp4", "open.ts", "variable.mkv", "mpeg4_b.mp4"])
def test_times_are_those_of_the_frames(made, name):
    file = made(name)
    with av.open(str(file)) as container:
        wanted = [picture.pts for picture in container.decode(video=0)]
    found = list(frames(file))
    assert [frame.pts for frame in found] == wanted
    assert found[0].time_s == 0
    base = probe(file).time_base
    assert found[-1].time_s == pytest.approx(float((wanted[-1] - wanted[0]) * base))


def test_a_range_and_every_other_frame(made):
    found = [frame.number for frame in frames(made("open.mp4"), start=31, stop=95, every=8)]
    assert found == list(range(32, 95, 8))


def test_real_clips_by_segments_as_from_the_start(data_dir):
    for file in sorted((data_dir / "video").iterdir()):
        assert by_segments(file) == list(enumerate(sequential(file))), file.name


def test_a_keyframe_that_is_none_is_told(tmp_path):
    """The encoder refreshes column by column: after its marks of recovery not all of a picture is there."""
    options = {"x264-params": "intra-refresh=1:keyint=30:bframes=0"}
    file = make_video(tmp_path / "refresh.mp4", options=options)
    video = probe(file)
    assert len(video.segments) > 1
    end = SegmentEnd()
    decoder = SegmentDecoder(video, "all", PIXELS)
    assert list(decoder.decode(video.segments[1], video.segments[1], end, 0, ALL)) == []
    assert not end.apart
    decoder.close()
