"""A file that was cut off says so, whatever its container; a whole one does not."""

from __future__ import annotations

import av
import numpy as np
import pytest

from cpuserve.errors import VideoError
from cpuserve.video.decoding import frames
from cpuserve.video.video_file import probe

COUNT = 12
KINDS = {
    "gif": ("gif", "gif", "rgb8", {}),
    "y4m": ("wrapped_avframe", "yuv4mpegpipe", "yuv420p", {}),
    "ts": ("mpeg2video", "mpegts", "yuv420p", {}),
    "m2ts": ("mpeg2video", "mpegts", "yuv420p", {"mpegts_m2ts_mode": "1"}),
    "wmv": ("wmv2", "asf", "yuv420p", {}),
    "mjpeg": ("mjpeg", "mjpeg", "yuvj420p", {}),
    "avi": ("mjpeg", "avi", "yuvj420p", {}),
    "webm": ("libvpx", "webm", "yuv420p", {}),
    "fragments.mp4": ("mpeg4", "mp4", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
    "apng": ("apng", "apng", "rgb24", {}),
    "flv": ("flv1", "flv", "yuv420p", {}),
    "ivf": ("libvpx", "ivf", "yuv420p", {}),
    "mxf": ("mpeg2video", "mxf", "yuv420p", {}),
    "nut": ("mpeg4", "nut", "yuv420p", {}),
    "mpg": ("mpeg1video", "mpeg", "yuv420p", {}),
    "vob": ("mpeg2video", "vob", "yuv420p", {}),
    "ogg": ("libvpx", "ogg", "yuv420p", {"page_duration": "1"}),
    "live.mkv": ("mpeg4", "matroska", "yuv420p", {"live": "1"}),
    "swf": ("flv1", "swf", "yuv420p", {}),
}


@pytest.fixture(params=KINDS)
def whole(request, tmp_path):
    codec, container, pixels, options = KINDS[request.param]
    path = tmp_path / f"whole.{request.param}"
    noise = np.random.default_rng(0)
    with av.open(str(path), "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for _ in range(COUNT):
            picture = noise.integers(0, 255, (48, 64, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return path


def test_a_whole_file_has_no_damage(whole):
    assert probe(whole).packets.damage is None
    assert sum(1 for _ in frames(whole)) == COUNT


@pytest.mark.parametrize("part", [0.5, 0.77, 0.9])
def test_a_cut_file_gives_the_frames_before_the_cut_and_says_it(whole, part):
    data = whole.read_bytes()
    length = int(part * len(data)) | 1  # no multiple of a packet of a transport stream
    whole.write_bytes(data[:length])
    given = 0
    with pytest.raises(VideoError, match=r"it (ends|is shorter).*is the last one") as told:
        for _ in frames(whole):
            given += 1
    assert 0 < given <= COUNT  # an index, or stuffing, may be all that is missing
    assert str(whole) in str(told.value)


@pytest.mark.parametrize("whole", ["avi"], indirect=True)
def test_an_avi_cut_between_packets_or_in_its_index_says_it(whole):
    data = whole.read_bytes()
    pictures = [place for place in range(len(data)) if data[place : place + 4] == b"00dc"][:COUNT]
    for end in (pictures[COUNT // 2], data.index(b"idx1"), data.index(b"idx1") + 20):
        whole.write_bytes(data[:end])
        with pytest.raises(VideoError, match="is the last one"):
            list(frames(whole))
    whole.write_bytes(data + b"notes of an editor")
    assert probe(whole).packets.damage is None
    for size in (0, (1 << 32) - 1):  # as what was written live has it
        whole.write_bytes(data[:4] + size.to_bytes(4, "little") + data[8:])
        assert probe(whole).packets.damage is None


class Pipe:
    """Takes what is written, and cannot go back in it."""

    def __init__(self):
        self.data = bytearray()

    def write(self, data):
        self.data += data
        return len(data)


def written_live(container, codec):
    pipe = Pipe()
    with av.open(pipe, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        noise = np.random.default_rng(0)
        for _ in range(COUNT):
            picture = noise.integers(0, 255, (48, 64, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return bytes(pipe.data)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("matroska", "mpeg4"),
        ("mxf", "mpeg2video"),
        ("nut", "mpeg4"),
        ("ogg", "libvpx"),
        ("mpeg", "mpeg1video"),
    ],
)
def test_what_was_written_live_is_whole_unless_it_ends_inside_a_packet(tmp_path, container, codec):
    path, data = tmp_path / "live", written_live(container, codec)
    path.write_bytes(data)
    assert probe(path).packets.damage is None
    assert sum(1 for _ in frames(path)) == COUNT
    path.write_bytes(data[: int(0.8 * len(data)) | 1])
    with pytest.raises(VideoError, match=r"it (ends|is shorter).*is the last one"):
        list(frames(path))


@pytest.mark.parametrize(("container", "codec"), [("ogg", "libvpx"), ("mxf", "mpeg2video")])
def test_what_has_to_have_an_end_says_that_it_has_none(tmp_path, container, codec):
    path = tmp_path / "made"
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(COUNT):
            picture = np.full((48, 64, 3), 20 * level, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    data = path.read_bytes()
    mark = b"OggS" if container == "ogg" else bytes.fromhex("060e2b34020501010d0102010104")
    path.write_bytes(data[: data.rindex(mark)])  # between two of its pieces
    assert probe(path).packets.damage in ("it ends before its last page", "it is shorter than its index says")


def test_a_dv_file_cut_inside_a_picture_says_it(tmp_path):
    path = tmp_path / "a.dv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for level in (0, 100, 200):
            picture = np.full((576, 720, 3), level, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    data = path.read_bytes()
    assert probe(path).packets.damage is None
    path.write_bytes(data[:-1000])
    assert probe(path).packets.damage == "it ends inside a packet"


def test_a_gif_cut_by_its_trailer_alone_says_it(tmp_path):
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb8"
        for level in range(0, 250, 50):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), "rgb24")))
        out.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data + b"notes of an editor")
    assert probe(path).packets.damage is None
    path.write_bytes(data[:-1])
    assert probe(path).packets.damage == "it ends before its trailer"


def test_a_wmv_that_was_written_live_has_no_size_to_miss(tmp_path):
    path = tmp_path / "a.wmv"
    with av.open(str(path), "w", format="asf") as out:
        stream = out.add_stream("wmv2", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(COUNT):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        out.mux(stream.encode(None))
    data = bytearray(path.read_bytes()[:-40])
    path.write_bytes(data)
    assert probe(path).packets.damage == "it is shorter than its index says"
    data[data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 88] |= 1  # its broadcast flag
    path.write_bytes(data)
    assert probe(path).packets.damage is None
