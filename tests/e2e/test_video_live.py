"""`cpuserve video infer` on live sources: they run until somebody ends them, and drops are counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import av
import pytest

from cpuserve.errors import VideoError
from cpuserve.settings import Settings
from cpuserve.video.frame_model import open_frame_model
from cpuserve.video.held_interrupt import hear_interrupt
from cpuserve.video.infer import InferOptions
from cpuserve.video.infer import infer as infer_videos
from cpuserve.video.local_answers import LocalAnswers
from cpuserve.video.scale import Scale
from cpuserve.video.video_sources import VideoSource
from tests.interrupts import interruptible
from tests.made_videos import make_video
from tests.served_folder import served_folder

FRAMES = 120


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("made") / "made.ts", frames=FRAMES)


@pytest.fixture(scope="module")
def address(video):
    """Where the video is served over HTTP."""
    with served_folder(video.parent) as folder:
        yield f"{folder}/{video.name}"


def infer(digits, *words, **options):
    command = [sys.executable, "-m", "cpuserve", "video", "infer", *map(str, words), "--model", "digits"]
    command += ["--model-repository", str(digits)]
    return subprocess.run(command, capture_output=True, timeout=100, check=False, **options)


def test_an_address_is_answered_to_its_end_and_every_frame_is_accounted_for(digits, address, tmp_path):
    done = infer(digits, address, "-o", tmp_path / "out.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    numbers = [json.loads(line)["frame"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert numbers == sorted({*numbers})
    summary = json.loads(done.stdout)
    assert summary["frames"] == len(numbers)
    assert summary["frames"] + summary["dropped"] == FRAMES
    assert set(range(FRAMES)) >= {*numbers}


def test_standard_input_is_a_source(digits, video):
    with video.open("rb") as file:
        done = infer(digits, "-", "--every", "10", stdin=file)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found
    assert {line["video"] for line in found} == {"-"}
    assert all(line["frame"] % 10 == 0 for line in found)


def test_an_annotated_video_of_an_address_has_rising_times(digits, address, tmp_path):
    assert infer(digits, address, "-o", tmp_path / "out.mp4").returncode == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [frame.time for frame in container.decode(container.streams.video[0])]
    assert times
    assert times == sorted(set(times))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_source_and_the_output_is_made(digits, video, tmp_path, number):
    pipe, target = tmp_path / "pipe", tmp_path / "out.csv"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "cpuserve", "video", "infer", str(pipe), "--model", "digits"]
    command += ["--model-repository", str(digits), "-o", str(target), "--json"]
    with interruptible():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    journal = tmp_path / "out.csv.parts" / "frames.jsonl"
    with pipe.open("wb") as file:
        file.write(video.read_bytes())
        file.flush()  # and never ends
        limit = time.monotonic() + 100  # of a hang
        while not (journal.exists() and journal.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(number)
        process.send_signal(number)  # impatience changes nothing
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    summary = json.loads(said)
    assert summary["interrupted"]
    frames = {int(row.split(",")[1]) for row in target.read_text().splitlines()[1:]}
    assert len(frames) == summary["frames"] > 0
    assert not journal.exists()


class SlowModel:
    """Answers nothing before it is told to."""

    name, version, checksum, in_flight, scale = "slow", 1, "", 1, Scale(8, 8)

    def __init__(self):
        self.go = threading.Event()

    def submit(self, _pixels, _width, _height, *, topk=None):
        self.go.wait(100)
        future: Future = Future()
        future.set_result({"model": "slow", "version": "1", "predictions": []})
        return future

    def close(self):
        pass


@pytest.fixture
def pipe(video, tmp_path):
    """Makes a named pipe, in which a video waits for its reader."""
    threads = []

    def filled(name):
        place = tmp_path / name
        os.mkfifo(place)
        threads.append(threading.Thread(target=lambda: place.write_bytes(video.read_bytes())))
        threads[-1].start()
        return VideoSource(str(place), name, live=True)

    yield filled
    for thread in threads:
        thread.join()


def test_frames_that_come_while_the_model_is_busy_are_dropped_and_counted(pipe):
    model = SlowModel()
    answers = LocalAnswers(model, InferOptions())
    threading.Timer(2.0, model.go.set).start()
    found = [frame.number for frame in answers.answer(pipe("first"), None)]
    counts = answers.live_counts()
    assert counts.dropped > 0
    assert len(found) + counts.dropped == FRAMES
    again = [frame.number for frame in answers.answer(pipe("second"), None)]
    assert answers.live_counts().dropped + len(found) + len(again) == 2 * FRAMES


@pytest.fixture
def struck(monkeypatch):
    """Has Ctrl-C come when the main thread has taken a lock, and nothing cares for its release yet."""
    enter, torn, left = threading.Condition.__enter__, [], []

    def enter_and_strike(self):
        taken = enter(self)
        if left and threading.current_thread() is threading.main_thread() and left.pop():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                torn.append(self)
                self.__exit__(None, None, None)  # else the test would never end
                raise
        return taken

    def strike(nth):
        left[:] = [True, *[False] * (nth - 1)]

    monkeypatch.setattr(threading.Condition, "__enter__", enter_and_strike)
    yield strike
    assert torn == []


class Written:
    """Takes frames, and asks for Ctrl-C with the first one."""

    def __init__(self, strike):
        self.strike, self.frames, self.ends = strike, 0, 0

    def begin(self, _source, _time_base):
        return iter(())

    def append(self, _line, _frame):
        self.frames += 1
        if self.frames == 1:
            self.strike()

    def end(self, _source):
        self.ends += 1

    def finish(self):
        signal.raise_signal(signal.SIGINT)  # impatience
        hear_interrupt()
        self.ends += 1

    def close(self):
        pass


@pytest.mark.parametrize("live", [True, False], ids=["live", "file"])
@pytest.mark.parametrize("nth", [1, 2])
def test_ctrl_c_that_comes_behind_the_taking_of_a_lock_leaves_it_free(pipe, video, digits, struck, live, nth):
    source = pipe("pipe") if live else VideoSource(str(video), "made")
    out = Written(lambda: struck(nth))
    model = open_frame_model(digits / "digits", Settings(preset="off"), threads=1)
    with interruptible(), LocalAnswers(model, InferOptions()) as answers:
        if live:
            assert infer_videos([source], answers, out, InferOptions()).interrupted
        else:
            with pytest.raises(KeyboardInterrupt):
                infer_videos([source], answers, out, InferOptions())
    assert (out.frames >= 1, out.ends) == (True, 2 * live)


def test_a_source_that_is_not_there_is_told(digits, tmp_path):
    answers = LocalAnswers(SlowModel(), InferOptions())
    with pytest.raises(VideoError, match=r"127\.0\.0\.1"):
        list(answers.answer(VideoSource("http://127.0.0.1:9/nothing", "nothing", live=True), None))
