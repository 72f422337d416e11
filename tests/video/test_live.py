"""Live sources: every decoded frame is given or counted, and what breaks is opened again."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import sys
import threading
import time

import av
import pytest

from cpuserve.errors import UsageError, VideoError
from cpuserve.video.decoder_server import shared_server
from cpuserve.video.held_interrupt import HeldInterrupt
from cpuserve.video.live import LiveSource
from tests.interrupts import interruptible
from tests.made_videos import make_video, shown_number
from tests.video.stages import Digests, Failing, Numbers

FRAMES = 120
SOON = (0.05, 0.2)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("made") / "made.ts", frames=FRAMES)


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    for _ in range(200):
        if len(shared_server().processes()) <= 1:
            break
        time.sleep(0.05)
    assert len(shared_server().processes()) <= 1


def numbers_of(source) -> list[int]:
    with source:
        return [frame.number for frame in source]


def gaps(numbers: list[int]) -> int:
    """How many numbers are missing, up to the last one."""
    return numbers[-1] + 1 - len(numbers)


@pytest.fixture
def served():
    """Starts a server whose answers a test writes; gives the address of a path."""
    servers = []

    def serve(answer, status=200):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_words):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/made.ts"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def ranged():
    """Serves a file with or without ranges; gives its address and the places that were asked for."""
    servers = []

    def serve(path, *, ranges):
        data, asked = path.read_bytes(), []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range", "")
                start = int(wanted.removeprefix("bytes=").split("-")[0]) if ranges and wanted else 0
                asked.append(start)
                self.send_response(206 if ranges and wanted else 200)
                if ranges:
                    self.send_header("Accept-Ranges", "bytes")
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                try:
                    self.wfile.write(data[start:])
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_words):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/{path.name}", asked

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_growing_file_is_followed_to_its_last_frame(video, tmp_path):
    file = tmp_path / "growing.ts"
    data = video.read_bytes()
    file.write_bytes(data[:20000])

    def grow():
        with file.open("ab") as place:
            for start in range(20000, len(data), 5000):
                place.write(data[start : start + 5000])
                place.flush()

    thread = threading.Thread(target=grow)
    thread.start()
    source = LiveSource(str(file), Digests(), queue=FRAMES, timeout_s=3)
    found = []
    for frame in source:
        assert shown_number(frame.pictures["small"]) == frame.number
        found.append((frame.number, round(frame.time_s, 6)))
    assert found == [(number, number / 25) for number in range(FRAMES)]
    thread.join()
    assert source.counts.decoded == source.counts.delivered == FRAMES
    source.close()


def test_a_slow_reader_gets_the_newest_frames_and_every_other_one_is_counted(video):
    source = LiveSource(str(video), Digests(), queue=5, timeout_s=0.5)
    found = []
    with source:
        for frame in source:
            assert shown_number(frame.pictures["small"]) == frame.number
            found.append(frame.number)
            time.sleep(0.05 if len(found) < 10 else 0)
    counts = source.counts
    assert found[-1] == FRAMES - 1
    assert gaps(found) == counts.dropped > 0
    assert (counts.decoded, counts.delivered) == (FRAMES, len(found))


def test_frames_for_which_no_memory_is_free_are_counted(video):
    """All pictures are kept, for which the decoder runs out of slots."""
    source = LiveSource(str(video), Digests(), queue=FRAMES, timeout_s=0.5, memory_bytes=1 << 17)
    with source:
        kept = [frame.keep() for frame in source]
        assert [shown_number(frame.pictures["small"]) for frame in kept] == [frame.number for frame in kept]
    assert 2 <= len(kept) < FRAMES
    assert source.counts.dropped == FRAMES - len(kept)


def test_frames_that_are_left_when_it_is_closed_are_counted(video):
    source = LiveSource(str(video), Numbers(), queue=FRAMES, timeout_s=60)
    next(iter(source))
    source.close()
    counts = source.counts
    assert counts.delivered == 1
    assert counts.dropped <= counts.decoded - 1
    assert list(source) == []


def test_every_other_frame(video):
    source = LiveSource(str(video), Numbers(), queue=FRAMES, every=5, timeout_s=0.5)
    assert numbers_of(source) == list(range(0, FRAMES, 5))
    assert source.counts.dropped == 0


def test_a_recording_behind_an_address_ends_with_its_last_frame(video, served):
    def answer(request):
        request.send_header("Content-Length", str(video.stat().st_size))
        request.end_headers()
        request.wfile.write(video.read_bytes())

    source = LiveSource(served(answer), Numbers(), queue=FRAMES)
    assert numbers_of(source) == list(range(FRAMES))
    assert source.counts.reconnects == 0


def slowly(source) -> list[int]:
    found = []
    with source:
        for frame in source:
            assert shown_number(frame.pictures["small"]) == frame.number
            found.append(frame.number)
            time.sleep(0.01)
    return found


@pytest.mark.parametrize("memory_bytes", [1 << 24, 1 << 12])
def test_a_recording_behind_an_address_loses_no_frame_to_a_slow_reader(video, served, memory_bytes):
    def answer(request):
        request.send_header("Content-Length", str(video.stat().st_size))
        request.end_headers()
        request.wfile.write(video.read_bytes())

    source = LiveSource(served(answer), Digests(), queue=2, memory_bytes=memory_bytes)
    assert slowly(source) == list(range(FRAMES))
    assert (source.counts.dropped, source.counts.reconnects) == (0, 0)


@pytest.mark.parametrize("ranges", [True, False])
def test_an_mp4_behind_an_address_loses_no_frame_to_a_slow_reader(tmp_path, ranged, ranges):
    """Its index is behind its frames."""
    make_video(tmp_path / "made.mp4", frames=FRAMES)
    address, asked = ranged(tmp_path / "made.mp4", ranges=ranges)
    source = LiveSource(address, Digests(), queue=2)
    assert slowly(source) == list(range(FRAMES))
    assert source.counts.dropped == 0
    assert asked


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"], ids=["indexed", "fragmented"])
def test_an_mp4_behind_an_address_that_was_cut_off_says_so(tmp_path, ranged, movflags):
    whole = tmp_path / "whole.mp4"
    make_video(whole, "mpeg4", FRAMES, container_options={"movflags": movflags})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    address, _ = ranged(cut, ranges=True)
    source = LiveSource(address, Numbers(), queue=FRAMES, attempts=2, waits_s=SOON)
    found = []
    with (
        source,
        pytest.raises(VideoError, match=r"it gave no frame in 2 attempts: it (is shorter|ends inside)"),
    ):
        for frame in source:
            found.append(frame.number)
    assert 0 < len(found) < FRAMES
    assert found == list(range(len(found)))


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_an_address_that_is_refused_is_not_asked_again(served, status):
    asked = []

    def answer(request):
        asked.append(status)
        request.end_headers()

    source = LiveSource(served(answer, status), Numbers(), waits_s=(5.0, 5.0))
    with source, pytest.raises(VideoError, match=rf"made\.ts: Server returned {status} "):
        list(source)
    assert asked == [status]
    assert source.counts.reconnects == 0


def test_a_recording_is_closed_while_it_waits_for_its_reader(video, served):
    def answer(request):
        request.send_header("Content-Length", str(video.stat().st_size))
        request.end_headers()
        request.wfile.write(video.read_bytes())

    source = LiveSource(served(answer), Digests(), queue=2)
    next(iter(source))
    source.close()
    assert source.counts.delivered == 1


def test_an_address_without_a_length_is_live_and_drops_for_a_slow_reader(video, served):
    def answer(request):
        request.end_headers()
        request.wfile.write(video.read_bytes())

    source = LiveSource(served(answer), Digests(), queue=2, attempts=1)
    found = []
    with source:
        for frame in source:
            found.append(frame.number)
            time.sleep(0.05)
            if source.counts.dropped:
                break
    assert source.counts.dropped > 0


def test_a_stream_that_breaks_off_is_opened_again(video, served):
    half = video.read_bytes()[: video.stat().st_size // 2 // 188 * 188]

    def answer(request):
        request.end_headers()
        request.wfile.write(half)

    source = LiveSource(served(answer), Digests(), queue=1000, waits_s=SOON)
    found = []
    with source:
        for frame in source:
            found.append(frame.number)
            if len(found) > 2 * FRAMES:
                break
    assert found == list(range(len(found)))
    assert source.counts.reconnects >= 3


def test_a_source_that_never_answers_is_given_up_without_its_password():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    address = f"rtsp://me:secret@127.0.0.1:{port}/1"
    source = LiveSource(address, Numbers(), attempts=3, waits_s=SOON)
    with pytest.raises(
        VideoError, match=r"^rtsp://127\.0\.0\.1:\d+/1: it gave no frame in 3 attempts"
    ) as told:
        list(source)
    source.close()
    assert "secret" not in str(told.value)
    assert source.counts.reconnects == 2


def test_a_pipe_ends_where_it_ends(video, monkeypatch):
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(video.read_bytes())

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading) as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        assert numbers_of(LiveSource("-", Numbers(), queue=FRAMES)) == list(range(FRAMES))
    thread.join()


def test_a_named_pipe_ends_where_it_ends(video, tmp_path):
    place = tmp_path / "pipe"
    os.mkfifo(place)
    thread = threading.Thread(target=lambda: place.write_bytes(video.read_bytes()))
    thread.start()
    assert numbers_of(LiveSource(str(place), Numbers(), queue=FRAMES)) == list(range(FRAMES))
    thread.join()


def test_a_crash_costs_the_frame_at_which_it_happened(video):
    source = LiveSource(str(video), Failing(50, "abort"), queue=FRAMES, timeout_s=0.5, waits_s=SOON)
    found = numbers_of(source)
    assert found == [number for number in range(FRAMES) if number != 50]
    counts = source.counts
    assert (counts.decoded, counts.dropped, counts.errors, counts.reconnects) == (FRAMES, 1, 1, 1)


def test_a_decoder_that_crashes_again_and_again_is_given_up(video):
    source = LiveSource(str(video), Failing(0, "exit"), attempts=1, timeout_s=0.5, waits_s=SOON)
    words = r"made\.ts: the process that decodes it ended with status 3, again and again"
    with source, pytest.raises(VideoError, match=words):
        list(source)


def test_an_error_of_a_stage_ends_it(video):
    source = LiveSource(str(video), Failing(20, "raise"), queue=FRAMES, timeout_s=0.5)
    found = []
    with source, pytest.raises(VideoError, match=r"made\.ts: the stage failed at frame 20: ValueError"):
        for frame in source:
            found.append(frame.number)
    assert found == list(range(20))


def test_rtsp_is_received_and_opened_again(video):
    """The source waits for cameras that send to it, as FFmpeg can; the same demuxer asks other cameras."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"rtsp://127.0.0.1:{unused.getsockname()[1]}/1"
    options = {"rtsp_flags": "listen", "listen_timeout": "30"}
    source = LiveSource(address, Numbers(), queue=1000, options=options, timeout_s=30, waits_s=SOON)
    enough = threading.Event()

    def send():
        while not enough.is_set():
            try:
                send_by_rtsp(video, address)
            except (OSError, av.FFmpegError):
                time.sleep(0.1)  # nobody waits there yet

    thread = threading.Thread(target=send)
    thread.start()
    found = []
    with source:
        for frame in source:
            found.append(frame.number)
            if len(found) > FRAMES + 20:
                break
        enough.set()
    thread.join()
    assert found == list(range(len(found)))
    assert source.counts.reconnects >= 1


def send_by_rtsp(video, address):
    with (
        av.open(str(video)) as taken,
        av.open(address, "w", format="rtsp", options={"rtsp_transport": "tcp"}) as given,
    ):
        stream = given.add_stream_from_template(taken.streams.video[0])
        for packet in taken.demux(video=0):
            if packet.size:
                packet.stream = stream
                given.mux(packet)


def test_wrong_arguments_are_refused(video):
    for wrong in ({"queue": 0}, {"every": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            LiveSource(str(video), Numbers(), **wrong)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_source_that_stays_silent_is_told_with_the_limit_and_without_the_password(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}/camera"
        source = LiveSource(f"{scheme}://me:se@cret@{place}", Numbers(), attempts=1, timeout_s=0.4)
        with source, pytest.raises(VideoError) as told:
            next(iter(source))
    why = "it gave no frame in 1 attempts: nothing came in 0.4 s (option --live-timeout)"
    assert str(told.value) == f"{scheme}://{place}: {why}"


def test_ctrl_c_ends_the_wait_for_a_frame(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    keeper = os.open(pipe, os.O_RDWR)  # nothing comes, and it never ends
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    with interruptible(), HeldInterrupt(), LiveSource(str(pipe), Numbers()) as source:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(iter(source))
    timer.join()
    os.close(keeper)
