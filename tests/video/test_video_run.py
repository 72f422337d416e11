"""Several videos are labelled as one run; a run that was ended goes on and gives the same labels."""

import math
import shutil
import signal
from dataclasses import replace

import pytest

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.video import packets, video_file
from cpuserve.video.cascade_choice import Choice
from cpuserve.video.cascade_run import CascadeRun
from cpuserve.video.decoder_messages import Probe
from cpuserve.video.decoder_server import DecoderChild
from cpuserve.video.label_file import read_labels
from cpuserve.video.video_run import label_files, plan_labels, run_videos
from cpuserve.video.video_sources import VideoSource, find_videos
from tests.interrupts import interruptible
from tests.made_videos import make_video
from tests.video.small_cascade import BrightReference, write_small_cascade

CHOICE = Choice(every=5, detector="global:10", delta=20.0, cnn="one", c_low=0.2, c_high=0.8)
LIMIT, NETWORK_LIMIT = 143.0, 124.0


@pytest.fixture
def clip(data_dir):
    return data_dir / "video" / "street_cars.mp4"


class Ended(Exception):
    """The user pressed Ctrl-C."""


class Watcher:
    """Ends the run at a frame."""

    def __init__(self, at=None):
        self.at = at
        self.seen = []

    def begin(self, source, video, start):
        self.seen.append((source.place, start))

    def labelled(self, number, run):
        if number == self.at:
            raise Ended

    def end(self, source, error):
        self.seen.append((source.place, error))


def run(directory, videos, target, *, resume=False, overwrite=False, watcher=None, **options):
    cascade = write_small_cascade(directory, CHOICE, NETWORK_LIMIT)
    sources = find_videos([str(video) for video in videos])
    files = plan_labels(sources, target, directory=len(videos) > 1)
    record = label_files(files, sources, {"query": "car"}, resume=resume, overwrite=overwrite)
    made = CascadeRun(directory, cascade, BrightReference(LIMIT), **options)
    return run_videos(sources, made, cascade.promise, files, record, watcher=watcher)


def test_a_run_that_was_ended_goes_on_with_the_same_labels_and_the_same_audit(tmp_path, clip):
    whole = run(tmp_path, [clip], tmp_path / "whole.csv", audit_rate=0.05)
    with pytest.raises(Ended):
        run(tmp_path, [clip], tmp_path / "ended.csv", audit_rate=0.05, watcher=Watcher(at=600))
    assert 590 < len(list(read_labels(tmp_path / "ended.csv"))) <= 601
    watcher = Watcher()
    rest = run(tmp_path, [clip], tmp_path / "ended.csv", audit_rate=0.05, resume=True, watcher=watcher)
    assert (tmp_path / "ended.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert 0 < rest.frames_before < 602
    assert watcher.seen[0] == (clip.name, rest.frames_before)
    assert rest.frames_before + rest.frames == whole.frames == 905
    assert rest.as_json()["observed"] == whole.as_json()["observed"]
    assert rest.shares == whole.shares
    again = run(tmp_path, [clip], tmp_path / "ended.csv", audit_rate=0.05, resume=True)
    assert (again.frames, again.frames_before) == (0, 905)
    assert again.as_json()["observed"] == whole.as_json()["observed"]


def test_a_video_that_cannot_be_read_does_not_end_the_run(tmp_path, clip):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    good = tmp_path / "good.mp4"
    shutil.copy(clip, good)
    summary = run(tmp_path, [bad, good], tmp_path / "labels", audit_rate=0)
    assert list(summary.errors) == [str(bad)]
    assert "bad.mp4" in summary.errors[str(bad)]
    assert len(list(read_labels(tmp_path / "labels" / "good.mp4.csv"))) == 905
    assert summary.as_json()["frames"] == 905
    assert summary.as_json()["observed"] is None
    assert "905 frames in" in summary.text()
    for minutes, words in (
        (12.5, "nothing; label 12.5 more minutes"),
        (math.inf, "nothing; see its report"),
    ):
        summary.promise = replace(summary.promise, promised=False, more_minutes=minutes)
        assert words in summary.text()


def test_each_video_of_a_run_has_a_sample_of_its_own(tmp_path, clip):
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip, tmp_path / name)
    run(tmp_path, [tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "labels", audit_rate=0.1)
    first, second = (
        {frame.number for frame in read_labels(tmp_path / "labels" / f"{name}.mp4.csv") if frame.audit}
        for name in "ab"
    )
    assert len(first - second) > 20
    assert len(second - first) > 20


def test_what_is_there_is_not_replaced_unasked(tmp_path, clip):
    out = tmp_path / "out.csv"
    run(tmp_path, [clip], out, audit_rate=0)
    with pytest.raises(UsageError, match=r"out.csv is there already: --resume continues it, --overwrite"):
        run(tmp_path, [clip], out)
    (tmp_path / "out.csv.run.json").unlink()
    with pytest.raises(UsageError, match=r"--resume has no record of the run that wrote it"):
        run(tmp_path, [clip], out, resume=True)
    assert run(tmp_path, [clip], out, overwrite=True, audit_rate=0).frames == 905


def test_several_videos_need_a_directory(clip, data_dir):
    sources = find_videos([str(clip), str(data_dir / "video" / "highway.avi")])
    with pytest.raises(UsageError, match="2 videos do not go into one file"):
        plan_labels(sources, clip.with_name("out.csv"), directory=False)


def test_every_frame_asks_the_reference_alone(tmp_path, clip):
    summary = run(tmp_path, [clip], tmp_path / "truth.jsonl", every_frame=True)
    assert summary.shares["reference"] == 1
    assert summary.run.audit is None
    labels = list(read_labels(tmp_path / "truth.jsonl"))
    assert all(frame.truth == frame.label for frame in labels)
    assert 0.2 < sum(frame.label for frame in labels) / 905 < 0.9


def test_a_video_is_opened_once_and_in_another_process(tmp_path, clip, monkeypatch):
    asked, send = [], DecoderChild.send
    monkeypatch.setattr(DecoderChild, "send", lambda child, words: (asked.append(words), send(child, words)))

    def opened(*_):
        raise AssertionError("a damaged file may crash the process that opens it")

    monkeypatch.setattr(packets, "open_video", opened)
    monkeypatch.setattr(video_file, "open_video", opened)
    assert run(tmp_path, [clip], tmp_path / "out.csv").frames == 905
    assert [words.path for words in asked if isinstance(words, Probe)] == [clip]


def test_a_reference_that_fails_ends_the_run_with_its_reason(tmp_path, clip):
    class Failing(BrightReference):
        def submit(self, pixels, width, height):
            answer = super().submit(pixels, width, height)
            if self.asked == 20:
                answer = type(answer)()
                answer.set_exception(CpuserveError("no replica is left"))
            return answer

    cascade = write_small_cascade(tmp_path, CHOICE, NETWORK_LIMIT)
    sources = find_videos([str(clip)])
    files = plan_labels(sources, tmp_path / "out.csv", directory=False)
    record = label_files(files, sources, {}, resume=False, overwrite=False)
    with pytest.raises(
        CpuserveError, match=r"could not answer frame \d+: no replica is left\. .*--resume goes on$"
    ):
        run_videos(sources, CascadeRun(tmp_path, cascade, Failing(LIMIT)), cascade.promise, files, record)
    assert list(read_labels(tmp_path / "out.csv"))


class Impatient:
    """Presses Ctrl-C at the first frame, and once more."""

    def __init__(self):
        self.whole = 0

    def begin(self, _source, _video, _start):
        pass

    def labelled(self, _number, _run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        self.whole += 1

    def end(self, _source, _error):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("live", [True, False])
def test_ctrl_c_comes_between_two_frames_and_ends_a_live_source_in_order(tmp_path, live):
    clip = tmp_path / "clip.ts"
    make_video(clip, frames=20)
    cascade = write_small_cascade(tmp_path, Choice(cnn="one", c_low=0.5, c_high=0.5), 124.0)
    source, out, watcher = VideoSource(str(clip), "clip", live=live), tmp_path / "out.csv", Impatient()
    record = label_files({source.name: out}, [source], {}, resume=False, overwrite=False)
    cascade_run = CascadeRun(tmp_path, cascade, BrightReference(), audit_rate=0, live_timeout_s=0.5)
    given = ([source], cascade_run, cascade.promise, {source.name: out}, record)
    with interruptible():
        if live:
            summary = run_videos(*given, watcher=watcher)
            assert (summary.interrupted, record.complete) == (True, True)
        else:
            with pytest.raises(KeyboardInterrupt):
                run_videos(*given, watcher=watcher)
    assert watcher.whole == len(list(read_labels(out))) == 1
