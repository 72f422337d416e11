"""What is read of a file: numbers and times of frames in files that are out of the ordinary."""

from __future__ import annotations

import re
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from cpuserve.errors import VideoError
from cpuserve.video.decoding import decode, frames
from cpuserve.video.picture_scaler import PictureScaler
from cpuserve.video.scale import Scale
from cpuserve.video.video_file import probe
from tests.made_pictures import exif
from tests.made_videos import make_video, numbered_picture, shown_number
from tests.video.stages import SMALL, Numbers

B_FRAMES = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0"}


def decoded(file) -> list[int]:
    """The numbers that PyAV shows, from the start to the end."""
    scaler = PictureScaler()
    with av.open(str(file)) as container:
        return [shown_number(scaler.scale(picture, SMALL)) for picture in container.decode(video=0)]


def shown(file) -> list[tuple[int, int]]:
    return [(frame.number, shown_number(frame.scaled(SMALL))) for frame in frames(file)]


def test_an_edit_list_cuts_frames_off_the_start(tmp_path):
    file = make_video(tmp_path / "edited.mp4", options=B_FRAMES)
    data = bytearray(file.read_bytes())
    place = data.index(b"elst") + 4 + 8 + 4  # version and flags, count, duration
    assert int.from_bytes(data[place : place + 4], "big") == 1024
    data[place : place + 4] = (1024 + 512 * 10).to_bytes(4, "big")
    file.write_bytes(data)
    wanted = decoded(file)
    assert wanted[0] == 10
    assert shown(file) == list(enumerate(wanted))
    assert next(iter(frames(file))).time_s == 0


def test_a_stream_cut_out_of_its_middle_begins_with_the_first_frame_that_decodes(tmp_path):
    whole = make_video(tmp_path / "whole.ts", options=B_FRAMES)
    data = whole.read_bytes()
    file = tmp_path / "part.ts"
    file.write_bytes(data[len(data) // 3 // 188 * 188 :])
    wanted = decoded(file)
    assert wanted[0] > 30
    assert shown(file) == list(enumerate(wanted))


def test_times_of_decoding_that_are_stored_as_times_of_showing_order_no_frames(tmp_path):
    def confuse(packet):
        packet.pts = packet.dts
        return [packet]

    file = make_video(tmp_path / "confused.mkv", options=B_FRAMES, change=confuse)
    video = probe(file)
    assert not video.ordered
    assert shown(file) == list(enumerate(range(150)))
    assert (np.diff(video.pts) > 0).all()


def test_a_clock_that_is_set_back_orders_no_frames(tmp_path):
    first = make_video(tmp_path / "first.ts", options=B_FRAMES, frames=100)
    file = tmp_path / "twice.ts"
    file.write_bytes(first.read_bytes() * 2)
    found = shown(file)
    assert found == list(enumerate(decoded(file)))
    assert len(found) >= 198


def test_packets_without_times_are_counted(tmp_path):
    file = make_video(tmp_path / "bare.h264", options={"x264-params": "bframes=0"})
    times = [frame.time_s for frame in frames(file)]
    assert np.allclose(times, np.arange(150) / 25)


def test_frames_that_their_header_hides_have_no_number(tmp_path):
    """VP8 may update its references by frames that are never shown."""
    hidden = []

    def hide(packet):
        data = bytearray(bytes(packet))
        if len(hidden) < 3 and not packet.is_keyframe and packet.pts % 10 == 5:
            hidden.append(packet.pts)
            data[0] &= ~0x10
        changed = av.Packet(bytes(data))
        changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
        changed.stream, changed.is_keyframe = packet.stream, packet.is_keyframe
        return [changed]

    file = make_video(tmp_path / "hidden.webm", "libvpx", change=hide)
    wanted = decoded(file)
    assert len(wanted) == 147
    assert shown(file) == list(enumerate(wanted))


def test_a_stream_that_begins_within_the_file_is_no_matter(tmp_path):
    """A part with sound follows one without, as where a broadcast changes its programme."""
    parts = []
    for name, sound in (("silent.ts", False), ("loud.ts", True)):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
            voice = container.add_stream("mp2", rate=48000) if sound else None
            for number in range(60):
                picture = av.VideoFrame.from_ndarray(numbered_picture(number), "rgb24")
                container.mux(stream.encode(picture))
            if voice is not None:
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1152 * 2), np.int16), "s16", "stereo")
                samples.sample_rate = 48000
                container.mux([*voice.encode(samples), *voice.encode(None)])
            container.mux(stream.encode(None))
        parts.append((tmp_path / name).read_bytes())
    file = tmp_path / "both.ts"
    file.write_bytes(b"".join(parts))
    assert [number for number, _ in shown(file)] == list(range(len(decoded(file))))


def test_a_name_with_a_colon_is_a_file(tmp_path):
    file = make_video(tmp_path / "plain.mp4", frames=30)
    odd = file.rename(tmp_path / "http:a.mp4")
    assert probe(odd).frames == 30


def test_a_codec_that_is_not_known_is_refused(tmp_path):
    file = make_video(tmp_path / "made.avi", "mpeg4", 30)
    file.write_bytes(file.read_bytes().replace(b"FMP4", b"ZZZZ"))
    with pytest.raises(VideoError, match=r"made\.avi: its video is of a codec that FFmpeg does not know"):
        list(decode(file, Numbers()))


@pytest.mark.parametrize("ending", ["mkv", "webm", "mp4"])
def test_the_rate_is_that_of_the_times_and_not_what_the_container_tells(tmp_path, ending):
    """As of recordings of browsers, which tell up to 1000 frames a second."""
    file = tmp_path / f"uneven.{ending}"
    times = np.cumsum([(40, 120, 200)[place % 3] for place in range(30)]).tolist()
    with av.open(str(file), "w") as target:
        stream = target.add_stream("libvpx" if ending == "webm" else "mpeg4", rate=100)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time_ms in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = time_ms // 10, Fraction(1, 100)
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    found = probe(file)
    assert found.frame_rate == pytest.approx(29 / (times[-1] - times[0]) * 1000, rel=0.04)
    assert found.duration_s == pytest.approx((times[-1] - times[0]) / 1000 * 30 / 29, rel=0.04)


def test_a_break_in_the_times_is_no_slow_video(tmp_path):
    file = tmp_path / "broken.mkv"
    with av.open(str(file), "w") as target:
        stream = target.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for place in range(200):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = place + (50_000 if place >= 100 else 0), Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    assert 20 < probe(file).frame_rate <= 25


def test_a_header_of_a_huge_picture_is_refused(tmp_path):
    file = make_video(tmp_path / "bomb.avi", "mjpeg", 10, pixel_format="yuvj420p")
    data = file.read_bytes()
    sizes = re.compile(rb"\xff\xc0\x00\x11\x08(....)", re.DOTALL)  # of the pictures themselves
    file.write_bytes(sizes.sub(lambda found: found[0][:5] + b"\xff\xf0\xff\xf0", data))
    with pytest.raises(VideoError, match=r"bomb\.avi: "):
        list(decode(file, Numbers()))


@pytest.mark.parametrize(
    ("degrees", "mirrored"), [(90, False), (180, False), (270, False), (0, True), (90, True)]
)
def test_pictures_are_turned_as_the_file_says(tmp_path, degrees, mirrored):
    """First turned, then mirrored, as a display matrix does both."""
    plain = make_video(tmp_path / "plain.mp4", "mpeg4", 3, b_frames=0)
    file = tmp_path / "turned.mp4"
    with av.open(str(plain)) as source, av.open(str(file), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees, hflip=mirrored)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    upright = next(iter(frames(plain)))
    turned = next(iter(frames(file)))
    assert (turned.width, turned.height) == ((128, 192) if degrees % 180 else (192, 128))
    assert (probe(file).width, probe(file).height) == (turned.width, turned.height)
    pixels = upright.scaled(Scale(192, 128))
    wanted = np.rot90(pixels, degrees // 90)
    wanted = wanted[:, ::-1] if mirrored else wanted
    assert np.array_equal(turned.scaled(Scale(turned.width, turned.height)), wanted)
    region = (0.25, 0.5, 0.75, 1.0)
    part = turned.scaled(Scale(turned.width // 2, turned.height // 2, region=region))
    height, width = wanted.shape[:2]
    expected = wanted[height // 2 :, width // 4 : width * 3 // 4]
    # chroma at the border of a part is interpolated anew
    assert np.abs(part.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 2])
def test_side_data_that_pyav_does_not_list_stop_no_frame(tmp_path, orientation):
    """A JPEG of a camera has EXIF data; it is turned as they say, and other kinds are passed over."""
    pixels = np.zeros((96, 160, 3), np.uint8)
    pixels[:48, :80] = 255  # white at the top left
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    if orientation is not None:
        block = b"Exif\0\0" + exif(orientation)
        data = data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    (frame,) = frames(file)
    seen = frame.scaled(Scale(frame.width, frame.height))
    turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert seen.shape == turned.shape
    assert np.abs(seen.astype(int) - turned).mean() < 4


def test_several_files_at_a_time_do_not_mix_their_frames(tmp_path):
    files = [
        make_video(tmp_path / f"{count}.mp4", frames=count, options=B_FRAMES) for count in (90, 100, 110)
    ]
    given = [frames(file) for file in files]
    for number, several in enumerate(zip(*given, strict=False)):
        assert [(frame.number, shown_number(frame.scaled(SMALL))) for frame in several] == [(number,) * 2] * 3


def test_times_begin_with_the_first_time_at_which_a_frame_is_shown(tmp_path):
    program = make_video(tmp_path / "a.mpg", "mpeg2video", 60, b_frames=2)
    with av.open(str(program)) as container:
        wanted = [frame.pts for frame in container.decode(video=0)]
    assert list(probe(program).pts) == wanted
    first, second = (make_video(tmp_path / f"{name}.ts", frames=50) for name in "bc")
    joined = tmp_path / "joined.ts"  # its clock is set back where the second begins
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with av.open(str(first)) as container:
        wanted = [frame.pts for frame in container.decode(video=0)]
    assert list(probe(joined).pts[:50]) == wanted


_UNEVEN = [1000 * number + 300 * (number % 3) for number in range(150)]


def times_of(file) -> list[float]:
    """The times that PyAV shows, in seconds from the first one."""
    with av.open(str(file)) as container:
        times = [picture.time or 0.0 for picture in container.decode(video=0)]
    return [time - times[0] for time in times]


def test_frames_of_one_time_leave_the_times_of_all_others_as_they_are(tmp_path):
    """Matroska counts milliseconds: frames that come faster share one."""
    uneven = [*_UNEVEN]
    uneven[40] = uneven[39] + 1
    file = make_video(tmp_path / "uneven.mkv", options=B_FRAMES, pts=uneven)
    times = times_of(file)
    assert times[39] == times[40]
    assert [frame.time_s for frame in frames(file)] == pytest.approx(times)
    assert shown(file) == list(enumerate(range(150)))


def test_a_clock_that_is_set_back_leaves_uneven_times_uneven(tmp_path):
    first = make_video(tmp_path / "first.mkv", options=B_FRAMES, pts=_UNEVEN)
    file = tmp_path / "twice.mkv"
    file.write_bytes(first.read_bytes() * 2)
    times = times_of(first)
    video = probe(file)
    behind = times[-1] + round(1000 / video.frame_rate) / 1000
    wanted = [*times, *(behind + time for time in times)]
    assert [frame.time_s for frame in frames(file)] == pytest.approx(wanted)
