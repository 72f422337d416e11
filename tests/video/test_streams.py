"""Streams in real time by a clock that is made up, what limits them, and the command."""

from __future__ import annotations

import json
import re
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from cpuserve.cli import cli
from cpuserve.errors import CpuserveError, RequestError, UsageError, VideoError
from cpuserve.settings import Settings
from cpuserve.video.scale import Scale
from cpuserve.video.stream_search import find_most
from cpuserve.video.stream_trial import PacedStream, StreamCounts
from cpuserve.video.streams import StreamMachine, TrialResult, deal, limiting_stage
from tests.conftest import ROOT


class Clock:
    """Time that passes only where somebody waits or works; answers come when their time has come."""

    def __init__(self, answer_s=0.0, decode_s=0.0):
        self.now = 100.0
        self.answer_s, self.decode_s = answer_s, decode_s
        self.waiting: list[tuple[float, Future]] = []
        self.submitted: list[float] = []
        self.scale = Scale(4, 4)
        self.error: Exception | None = None

    def sleep(self, seconds):
        self.until(self.now + seconds)

    def until(self, when):
        for due, future in [*self.waiting]:
            if due <= when:
                self.now = max(self.now, due)
                self.waiting.remove((due, future))
                future.set_result({})
        self.now = max(self.now, when)

    def submit(self, _pixels, _width, _height):
        self.submitted.append(self.now)
        future: Future = Future()
        if self.error:
            future.set_exception(self.error)
        else:
            self.waiting.append((self.now + self.answer_s, future))
            self.until(self.now)
        result = future.result

        def wait():
            if not future.done():
                self.until(next(due for due, other in self.waiting if other is future))
            return result()

        future.result = wait
        return future

    def play(self, frames=10):
        def frame():
            self.until(self.now + self.decode_s)
            return SimpleNamespace(width=8, height=8, scaled=lambda _scale: np.zeros((4, 4, 3), np.uint8))

        return lambda: (frame() for _ in range(frames))


def run(clock, *, rate=10.0, fps=2.0, seconds=10.0, frames=10):
    stream = PacedStream(
        clock,
        clock.play(frames),
        rate=rate,
        fps=fps,
        begin=clock.now,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    return stream.run(clock.now, clock.now + seconds)


@pytest.mark.parametrize(("rate", "fps"), [(10.0, 2.0), (12.5, 5.0), (25.0, 30.0), (30.0, 0.5)])
def test_all_frames_are_decoded_and_so_many_are_inferred(rate, fps):
    counts = run(Clock(answer_s=0.01), rate=rate, fps=fps, seconds=20.0)
    assert counts.decoded == pytest.approx(20 * rate, abs=1)
    assert counts.inferred == pytest.approx(20 * min(rate, fps), abs=1)
    assert counts.dropped == 0
    assert counts.lateness_s == pytest.approx([0.01] * counts.inferred)


def test_frames_are_inferred_at_even_times():
    clock = Clock()
    run(clock, rate=10.0, fps=2.0)
    assert np.diff(clock.submitted) == pytest.approx(0.5)


def test_an_answer_that_takes_longer_than_its_turn_drops_frames():
    counts = run(Clock(answer_s=1.2), fps=2.0)
    assert counts.dropped > 5
    assert counts.dropped + counts.inferred == 20
    assert max(counts.lateness_s) == pytest.approx(1.2)


def test_decoding_that_falls_behind_makes_answers_late():
    counts = run(Clock(decode_s=0.15), rate=10.0, fps=2.0, seconds=10.0)
    assert counts.lateness_s == sorted(counts.lateness_s)
    assert counts.lateness_s[-1] > 3


def test_the_first_seconds_are_not_counted():
    clock = Clock()
    stream = PacedStream(
        clock,
        clock.play(),
        rate=10.0,
        fps=2.0,
        begin=100.0,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    assert stream.run(105.0, 110.0).decoded == pytest.approx(50, abs=1)


def test_a_video_without_frames_and_a_model_that_fails_end_the_stream():
    with pytest.raises(CpuserveError, match="no frame that can be decoded"):
        run(Clock(), frames=0)
    clock = Clock()
    clock.error = RequestError("no such pixels")
    with pytest.raises(RequestError, match="no such pixels"):
        run(clock)


def result(streams, *, passed=True, busy=0.5, parts=(20, 5, 75), inference_ms=10.0, other=0.0, error=""):
    threads, seconds = 4, 10.0
    inferred = round(seconds * 5 * streams)
    counts = StreamCounts(
        inferred * 5, inferred, 0 if passed else 3, [0.01 if passed else 0.5] * 9, error=error
    )
    total = busy * threads * seconds * 1e9
    shares = np.array(parts) / sum(parts) * total
    counts.cpu_ns = dict(zip(("decode", "scale", "inference"), map(int, shares), strict=True))
    if inference_ms != 10.0:
        counts.inferred = int(counts.cpu_ns["inference"] / 1e6 / inference_ms)
    return TrialResult(streams, seconds, threads, 0.2, 0, counts, other)


def limit(over, alone=None):
    alone = alone or result(1, busy=0.1)
    return limiting_stage(find_most(lambda streams: over if streams > 7 else alone, 100))


@pytest.mark.parametrize(
    ("over", "name", "why"),
    [
        ({"busy": 0.97}, "inference", "the CPUs are 97% busy: decode 20%, scale 5%, inference 75%"),
        ({"busy": 0.97, "parts": (70, 5, 25), "inference_ms": 3.3}, "decode", "decode 70%"),
        ({"busy": 0.97, "parts": (20, 65, 15), "inference_ms": 2.0}, "scale", "scale 65%"),
        ({"busy": 0.4}, "latency", "takes 500 ms .* 200 ms are allowed, while the CPUs are 40% busy"),
        ({"busy": 0.4, "other": 2.2}, "other programs", "other programs use 2.2 of 4 CPUs, the streams 1.6"),
        ({"busy": 0.97, "inference_ms": 120.0}, "memory", "times the CPU time it takes in a single stream"),
        ({"busy": 0.2, "error": "x.mp4: frame 3 is damaged"}, "error", "frame 3 is damaged"),
    ],
)
def test_what_limits_follows_from_the_trial_of_one_more(over, name, why):
    import re

    found = limit(result(8, passed=False, **over))
    assert found is not None
    assert found.name == name
    assert re.search(why, found.why)


def test_nothing_limits_where_the_search_ended_before():
    assert limiting_stage(find_most(result, 5)) is None


def test_a_trial_fails_by_a_dropped_a_missing_and_a_late_frame():
    good = result(2)
    assert good.passed
    assert not result(2, passed=False).passed
    assert not TrialResult(2, 10, 4, 0.001, 0, good.counts).passed
    assert not TrialResult(2, 10, 4, 0.2, 10_000, good.counts).passed
    assert not result(2, error="ended").passed


@pytest.mark.parametrize(
    ("threads", "places"),
    [([1], [(0, 1, 2, 3, 4)]), ([2, 2], [(0, 2, 4), (1, 3)]), ([3, 1], [(0, 1, 2, 4), (3,)])],
)
def test_streams_are_dealt_by_the_size_of_the_seats(threads, places):
    assert deal(5, threads) == places


def streams(*words):
    given = ["--model", "digits", "--model-repository", str(ROOT / "ir_models"), "--preset", "off"]
    return CliRunner().invoke(cli, ["video", "streams", *map(str, words), *given])


def test_the_command_finds_a_number_and_says_why(data_dir):
    clip = data_dir / "video" / "odd_48x48_raw.avi"
    done = streams(clip, "--fps", "1", "--seconds", "1", "--most", "1", "--lateness-ms", "60000", "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == (0 if report["streams"] else 1)
    assert 0 <= report["streams"] <= 1
    assert report["source"]["file"] == clip.name
    assert report["model"]["name"] == "digits"
    assert report["bounded"] == (report["streams"] < 1) == (report["limited_by"] is not None)
    assert all(trial["decoded"] >= trial["inferred"] for trial in report["trials"])
    assert "1 stream: " in done.stderr
    table = streams(clip, "--fps", "99", "--seconds", "1", "--most", "1", "--lateness-ms", "60000")
    assert re.search("streams? of 48x48 rawvideo at 15 frames a second, digits on 15 of them", table.stdout)
    assert "the source has 15 frames a second: --fps 99 infers all" in table.stderr


def test_trials_too_short_for_a_frame_are_refused_with_what_would_do(data_dir):
    done = streams(data_dir / "video" / "odd_48x48_raw.avi", "--fps", "0.03", "--seconds", "5")
    assert isinstance(done.exception, UsageError)
    assert "nothing is inferred in --seconds 5: give at least 34" in str(done.exception)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        StreamMachine(tmp_path / "text.mp4", "digits", Settings(), fps=1, seconds=1)
    assert "there is no video" in str(streams(tmp_path / "nowhere.mp4").exception)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    assert "are 3 videos: name the one" in str(streams(tmp_path).exception)
