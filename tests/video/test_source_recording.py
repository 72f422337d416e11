"""A live source is recorded from a key frame on, and played as any file."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import av
import pytest
from click.testing import CliRunner

from cpuserve.cli import cli
from cpuserve.errors import VideoError
from cpuserve.video.source_recording import recorded
from cpuserve.video.video_file import probe
from cpuserve.video.video_sources import find_videos
from tests.conftest import ROOT
from tests.interrupts import interruptible
from tests.made_videos import make_video
from tests.served_folder import served_folder

PIXELS = 1 << 24


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("made") / "made.ts", frames=100)


@pytest.fixture(scope="module")
def address(video):
    """Where the video is served over HTTP."""
    with served_folder(video.parent) as folder:
        yield f"{folder}/{video.name}"


def record(name, seconds):
    (source,) = find_videos([str(name)])
    with recorded(source, seconds, PIXELS) as file:
        return probe(file)


def test_so_many_seconds_are_recorded_from_time_0_on(address, video):
    whole = probe(video)
    found = record(address, 2)
    assert (found.width, found.height, found.codec) == (whole.width, whole.height, whole.codec)
    assert found.frame_rate == pytest.approx(whole.frame_rate, rel=0.02)
    assert found.duration_s == pytest.approx(2, abs=0.2)
    assert not found.path.exists()
    assert float(int(found.pts[0]) * found.time_base) == pytest.approx(0, abs=0.15)


def test_a_source_that_ends_before_gives_what_it_has(address, video):
    assert record(address, 100).frames == probe(video).frames


def test_what_comes_before_the_first_key_frame_is_left_out(video, tmp_path):
    late, fifo = tmp_path / "late.ts", tmp_path / "camera"
    with av.open(str(video)) as source, av.open(str(late), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        again = next(place for place, packet in enumerate(packets) if place and packet.is_keyframe)
        for packet in packets[2:]:
            packet.stream = stream
            target.mux(packet)
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(late.read_bytes()))
    writer.start()
    found = record(fifo, 100)
    writer.join()
    assert found.frames == pytest.approx(len(packets) - again, abs=2)


def test_a_source_that_is_not_there_is_named_without_its_password():
    with pytest.raises(VideoError, match="cannot be opened") as caught:
        record("rtsp://user:secret@127.0.0.1:1/camera", 1)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_source_that_says_nothing_is_given_up_with_the_reason(monkeypatch):
    monkeypatch.setattr("cpuserve.video.source_recording._PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(VideoError, match="came in time"):
        record(f"http://127.0.0.1:{silent.getsockname()[1]}/camera.ts", 1)


def test_ctrl_c_ends_the_wait_for_a_source_that_says_nothing():
    command = [sys.executable, "-m", "cpuserve", "video", "streams", "--model", "digits", "--preset", "off"]
    command += ["--model-repository", str(ROOT / "ir_models")]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command.append(f"http://127.0.0.1:{silent.getsockname()[1]}/camera.ts")
        with interruptible():
            running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)  # it has asked, and waits
            running.send_signal(signal.SIGINT)
            said = running.communicate(timeout=60)[1]
    assert running.returncode == 130, said  # and not 1, as when it has waited long enough
    assert "Traceback" not in said


def test_the_command_plays_an_address(address):
    words = ["--model", "digits", "--model-repository", str(ROOT / "ir_models"), "--preset", "off"]
    words += ["--fps", "1", "--seconds", "1", "--most", "1", "--lateness-ms", "60000", "--json"]
    report = json.loads(CliRunner().invoke(cli, ["video", "streams", address, *words]).stdout)
    assert report["source"]["file"] == address
    assert report["trials"][0]["decoded"] > 10
