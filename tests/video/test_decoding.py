"""Decoding in processes of their own: order, exactness, crashes, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cpuserve.errors import UsageError, VideoError, install_command
from cpuserve.video.decoder_server import shared_server
from cpuserve.video.decoding import decode, frames, probe_apart
from tests.conftest import ROOT
from tests.made_videos import make_video, shown_number
from tests.video.stages import SMALL, Digests, Failing, Growing, Numbers, Odd, Slow, digest


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """720 frames in 24 groups, and 6 segments."""
    return make_video(tmp_path_factory.mktemp("made") / "made.mp4", frames=720)


@pytest.fixture(scope="module")
def wanted(video):
    return [(frame.number, frame.pts, frame.time_s, digest(frame)) for frame in frames(video)]


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    for _ in range(200):
        if len(shared_server().processes()) <= 1:
            break
        time.sleep(0.05)
    assert len(shared_server().processes()) <= 1


def collect(given, seen):
    """Put frames into a list that is there when an error ends them, too."""
    for frame in given:
        seen.append(frame)


def summary(found):
    return [(frame.number, frame.pts, frame.time_s, frame.value[0]) for frame in found]


@pytest.mark.parametrize("processes", [1, 2, 3, None])
def test_frames_come_in_order_and_as_from_the_start(video, wanted, processes):
    found = []
    for frame in decode(video, Digests(), processes=processes):
        found.append((frame.number, frame.pts, frame.time_s, frame.value[0]))
        assert shown_number(frame.pictures["small"]) == frame.number
    assert found == wanted


def test_segments_are_those_of_the_file_for_any_number_of_processes(video):
    told = [[frame.value[1] for frame in decode(video, Digests(), processes=count)] for count in (1, 3)]
    assert told[0] == told[1]
    assert set(told[0]) == {segment.index for segment in probe_apart(video).segments}


def test_real_clips_in_processes_as_in_this_one(data_dir):
    for name in ("highway.avi", "odd_48x48_raw.avi", "car-detection.mp4"):
        file = data_dir / "video" / name
        here = [(frame.number, frame.pts, frame.time_s, digest(frame)) for frame in frames(file)]
        assert summary(decode(file, Digests(), processes=2)) == here, name
    assert len(here) == 377


def test_highway_has_the_frames_that_decode_not_those_of_its_header(data_dir):
    found = [frame.number for frame in decode(data_dir / "video" / "highway.avi", Numbers(), processes=2)]
    assert found == list(range(1699))


@pytest.mark.parametrize(
    ("start", "stop", "every"), [(0, 720, 7), (301, 420, 1), (95, 700, 96), (719, 900, 1)]
)
def test_ranges_and_steps(video, wanted, start, stop, every):
    numbers = range(start, min(stop, 720))
    chosen = [wanted[number] for number in numbers if number % every == 0]
    assert summary(decode(video, Digests(), processes=2, start=start, stop=stop, every=every)) == chosen


def test_a_range_of_a_file_whose_packets_tell_no_order(data_dir):
    file = data_dir / "video" / "highway.avi"
    whole = {frame.number: digest(frame) for frame in frames(file)}
    found = {
        frame.number: frame.value[0] for frame in decode(file, Digests(), processes=2, start=1000, stop=1100)
    }
    assert found == {number: whole[number] for number in range(1000, 1100)}


def test_only_keyframes(video):
    found = [
        (frame.number, frame.value[1]) for frame in decode(video, Numbers(), which="nonkey", processes=2)
    ]
    assert found == [(number, True) for number in range(0, 720, 30)]


def test_a_stage_may_leave_frames_out(video):
    assert [frame.number for frame in decode(video, Odd(), processes=2)] == list(range(1, 720, 2))


def test_a_file_that_cannot_be_divided_is_decoded_by_one_process(tmp_path):
    options = {"x264-params": "intra-refresh=1:keyint=30:bframes=0"}
    file = make_video(tmp_path / "refresh.mp4", frames=330, options=options)
    here = [(frame.number, frame.pts, frame.time_s, digest(frame)) for frame in frames(file)]
    assert [number for number, *_ in here] == list(range(330))
    assert summary(decode(file, Digests(), processes=2)) == here


def test_pictures_of_any_size_within_the_memory_that_is_allowed(video):
    whole = {frame.number: frame.scaled(SMALL).copy() for frame in frames(video, stop=300)}
    for frame in decode(video, Growing(), processes=2, stop=300, memory_bytes=1 << 16):
        side = 8 + 40 * (frame.number // 30)
        assert frame.pictures["a"].shape == (side, side, 1)
        assert np.array_equal(frame.pictures["b"], whole[frame.number])


def test_kept_pictures_stay_until_they_are_released(video, wanted):
    kept = [frame.keep() for frame in decode(video, Digests(), processes=2, stop=100)]
    assert [shown_number(frame.pictures["small"]) for frame in kept] == list(range(100))
    kept[0].release()
    kept[0].release()
    assert kept[0].pictures == {}


@pytest.mark.parametrize(
    ("how", "words"),
    [("abort", "ended by SIGABRT"), ("kill", "ended by SIGKILL"), ("exit", "ended with status 3")],
)
def test_a_crash_names_the_file_and_the_frame_and_ends_no_other_file(video, how, words):
    seen = []
    with pytest.raises(VideoError, match=rf"made\.mp4: .*{words}.* at frame 300$"):
        collect(decode(video, Failing(300, how), processes=2), seen)
    assert [frame.number for frame in seen] == list(range(300))
    assert len(list(decode(video, Numbers(), processes=2))) == 720


def test_an_error_of_a_stage_names_the_frame(video):
    with pytest.raises(
        VideoError, match=r"made\.mp4: the stage failed at frame 130: ValueError: nothing"
    ) as told:
        list(decode(video, Failing(130, "raise"), processes=2))
    assert "in __call__" in told.value.__notes__[0]


def test_a_stage_that_cannot_be_sent_is_refused(video):
    class Local(Numbers):
        pass

    with pytest.raises(UsageError, match="Local cannot be sent"):
        next(decode(video, Local()))


def test_wrong_arguments_are_refused(video):
    for wrong in ({"every": 0}, {"start": -1}, {"processes": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            next(decode(video, Numbers(), **wrong))


def test_too_large_pictures_are_refused_before_they_are_decoded(video):
    for call in (probe_apart, lambda *given, **named: next(frames(*given, **named))):
        with pytest.raises(
            VideoError, match=r"192x128 pixels are larger than 10000 pixels \(setting max_pixels\)"
        ):
            call(video, max_pixels=10000)


def test_a_file_that_is_no_video_is_refused_by_its_name(tmp_path, data_dir):
    text = tmp_path / "notes.mp4"
    text.write_text("no video " * 100)
    empty = tmp_path / "empty.avi"
    empty.touch()
    sound = make_sound(tmp_path / "sound.mp4")
    for file, words in (
        (text, r"notes\.mp4: it cannot be opened as a video"),
        (empty, r"empty\.avi: it is empty"),
        (tmp_path, "it is a directory"),
        (tmp_path / "gone.mp4", r"gone\.mp4: .*No such file"),
        (sound, r"sound\.mp4: there is no video in it"),
    ):
        for call in (
            probe_apart,
            lambda file: next(decode(file, Numbers())),
            lambda file: next(frames(file)),
        ):
            with pytest.raises(VideoError, match=words):
                call(file)


def make_sound(file: Path) -> Path:
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi", "cut.flv"])
def test_a_file_that_breaks_off_gives_what_is_there_and_says_where_it_ends(tmp_path, name):
    movflags = {"movflags": "faststart"} if name.endswith("mp4") else None
    whole = make_video(
        *(tmp_path / f"whole{Path(name).suffix}", "flv" if name.endswith("flv") else "mpeg4", 400),
        b_frames=0,
        container_options=movflags,
    )
    data = whole.read_bytes()
    file = tmp_path / name
    file.write_bytes(data[: len(data) * 2 // 3])
    wanted = [digest(frame) for frame in frames(whole)]
    seen = []
    with pytest.raises(VideoError, match=rf"{name}: it .*frame (\d+) is the last one") as told:
        collect(decode(file, Digests(), processes=2), seen)
    last = int(str(told.value).split("frame ")[1].split()[0])
    assert 150 < last < 350
    with pytest.raises(VideoError, match=f"frame {last} is the last one"):
        list(decode(file, Numbers(), processes=2, every=100))
    assert [frame.value[0] for frame in seen] == wanted[: last + 1]


def test_a_file_without_its_index_is_refused(tmp_path):
    whole = make_video(tmp_path / "whole.mp4", frames=60)
    file = tmp_path / "cut.mp4"
    file.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(VideoError, match=r"cut\.mp4: it cannot be opened as a video"):
        next(decode(file, Numbers()))


def test_damage_by_which_ffmpeg_drops_packets_is_told_by_the_times(tmp_path, caplog):
    file = tmp_path / "damaged.ogg"
    make_video(file, "libvpx", container_options={"page_duration": "200000"}, options={"g": "15"})
    given = [frame.number for frame in decode(file, Numbers())]
    assert (given, caplog.messages) == ([*range(150)], [])
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1  # each page of an Ogg file has a checksum
    file.write_bytes(data)
    left = [frame.number for frame in decode(file, Numbers())]
    assert 100 < len(left) < 150
    assert f"damaged.ogg: its times leave out {150 - len(left)} frames" in caplog.text


def test_times_that_are_not_of_one_rate_leave_nothing_out(tmp_path, caplog):
    steps = np.random.default_rng(0).integers(500, 3000, 150)
    make_video(tmp_path / "uneven.mp4", pts=[*map(int, np.cumsum(steps))])
    assert sum(1 for _ in decode(tmp_path / "uneven.mp4", Numbers())) == 150
    assert caplog.messages == []


def test_damage_in_the_middle_loses_frames_there_and_no_number(tmp_path, caplog):
    whole = make_video(tmp_path / "whole.mp4", "mjpeg", 240, pixel_format="yuvj420p")
    data = bytearray(whole.read_bytes())
    places = [row.start() for row in re.finditer(b"\xff\xd8\xff", bytes(data))]
    for place in places[100:103]:
        data[place : place + 600] = bytes(600)
    file = tmp_path / "damaged.mp4"
    file.write_bytes(data)
    found = [frame.number for frame in decode(file, Numbers(), processes=2)]
    assert found == [number for number in range(240) if not 100 <= number < 103]
    assert "damaged.mp4: 3 damaged packets gave no frame, the first of them at frame 100" in caplog.text


SCRIPT = """
import sys
from pathlib import Path
from cpuserve.video.decoding import decode
from tests.video.stages import Slow

for frame in decode(sys.argv[1], Slow(Path(sys.argv[2])), processes=2):
    print(frame.value, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_is_ended_leaves_no_process(video, tmp_path, number):
    command = [sys.executable, "-c", SCRIPT, str(video), str(tmp_path / "pid")]
    program = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with program:
        assert program.stdout is not None
        decoder = int(program.stdout.readline())
        assert Path(f"/proc/{decoder}").exists()
        if number == signal.SIGINT:  # as a terminal sends it: to all of them
            os.killpg(program.pid, number)
        else:
            program.send_signal(number)
        program.wait()
    for _ in range(200):
        if not is_running(decoder):
            break
        time.sleep(0.05)
    assert not is_running(decoder)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_abandoning_a_file_ends_its_processes(video, tmp_path):
    given = decode(video, Slow(tmp_path / "pid"), processes=2)
    next(given)
    assert len(shared_server().processes()) == 3
    given.close()


def test_without_pyav_the_message_says_what_to_install():
    code = "import sys; sys.modules['av'] = None; import cpuserve.video.decoding"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"MissingExtra: video needs PyAV: {install_command('video')}" in done.stderr


def test_the_process_that_forks_ends_quietly_with_the_one_that_asked():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words, child_words = socket.socketpair()
    command = [sys.executable, "-m", "cpuserve.video.decoder_process", str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True) as process:
        theirs.close()
        memory = os.memfd_create("test")
        socket.send_fds(ours, [b"fork"], [child_words.fileno(), memory])
        child = json.loads(ours.recv(256))["forked"]
        ours.shutdown(socket.SHUT_RD)  # as where it has ended, and what it is told finds nobody any more
        os.kill(child, signal.SIGKILL)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    for one in (ours, words, child_words):
        one.close()
    os.close(memory)
