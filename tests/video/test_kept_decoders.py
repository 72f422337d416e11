"""Processes that decode go on from one file to the next; a crash, and pictures that are kept, stay apart."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from cpuserve.errors import VideoError
from cpuserve.video.decoder_server import shared_server
from cpuserve.video.decoding import decode, kept_decoders, probe_apart
from tests.made_videos import make_video
from tests.video.stages import Digests, Failing, Numbers, Prepared, Processes


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    return [make_video(folder / f"{frames}.mp4", frames=frames) for frames in (300, 420)]


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    until(lambda: len(shared_server().processes()) <= 1)


def until(there):
    for _ in range(200):
        if there():
            return
        time.sleep(0.05)
    raise AssertionError(shared_server().processes())


def found(path, stage=None, processes=2):
    return [
        (frame.number, frame.pts, frame.value)
        for frame in decode(path, stage or Digests(), processes=processes)
    ]


def test_the_same_processes_decode_file_after_file(videos):
    wanted = [found(video) for video in videos]
    apart = {pid for video in videos for *_, pid in found(video, Processes())}
    with kept_decoders():
        assert [found(video) for video in videos] == wanted
        before = set(shared_server().processes())
        pids = {pid for video in videos for *_, pid in found(video, Processes())}
        assert set(shared_server().processes()) == before
        assert pids <= before
    assert len(apart) == 4
    assert len(pids) == 2


def test_a_crash_costs_one_file_and_the_next_gets_another_process(videos):
    wanted = found(videos[1])
    with kept_decoders():
        found(videos[0])
        with pytest.raises(VideoError, match="was ended by SIGABRT at frame 40"):
            found(videos[0], Failing(40, "abort"))
        assert found(videos[1]) == wanted
        idle = shared_server().processes()[1:]
        for pid in idle:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(shared_server().processes()) == 1)
        assert found(videos[1]) == wanted


def test_an_error_of_a_stage_does_not_reach_the_next_file(videos):
    with kept_decoders():
        with pytest.raises(VideoError, match="the stage failed at frame 40"):
            found(videos[0], Failing(40, "raise"))
        assert found(videos[0], Numbers())[-1][0] == 299


def test_a_file_that_is_left_early_and_one_that_is_none(videos, tmp_path):
    wanted = found(videos[1])
    (tmp_path / "none.mp4").write_bytes(b"no video")
    with kept_decoders():
        left = decode(videos[0], Digests(), processes=2)
        next(left)
        left.close()
        with pytest.raises(VideoError, match=r"none\.mp4"):
            probe_apart(tmp_path / "none.mp4")
        assert found(videos[1]) == wanted


def test_pictures_that_are_kept_stay_when_their_process_goes_on(videos):
    with kept_decoders():
        kept = []
        for frame in decode(videos[0], Digests(), processes=1):
            if frame.number < 6:
                frame.keep()
                kept.append((frame, frame.pictures["small"].copy()))
        for frame in decode(videos[1], Digests(), processes=1):
            if frame.number == 3:
                held, copied = frame, frame.pictures["small"].copy()
                frame.keep()
                for old, _ in kept[:3]:
                    old.release()  # of the file before: they free nothing of this one
        assert np.array_equal(held.pictures["small"], copied)
        assert all(np.array_equal(old.pictures["small"], copy) for old, copy in kept[3:])


def test_they_are_started_and_prepared_before_there_is_a_file(videos, tmp_path):
    with kept_decoders(Prepared(tmp_path), processes=2):
        until(lambda: len(list(tmp_path.iterdir())) == 2)
        ready = {int(path.name) for path in tmp_path.iterdir()}
        assert {pid for *_, pid in found(videos[0], Prepared(tmp_path))} <= ready
        assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_prepared_is_told_with_a_file(videos, tmp_path):
    with kept_decoders(Prepared(tmp_path / "none"), processes=1):
        pass
    with kept_decoders(Prepared(tmp_path / "none"), processes=1):
        assert len(found(videos[0], Numbers(), processes=1)) == 300
