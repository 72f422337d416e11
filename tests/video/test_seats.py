"""Seats for work on video: planned by machine, bound, and answering as one process does."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from cpuserve.errors import UnknownModel, VideoError
from cpuserve.machine.files import read_cpulist
from cpuserve.machine.placement import Seat
from cpuserve.settings import Settings
from cpuserve.video.infer import InferOptions
from cpuserve.video.local_answers import LocalAnswers
from cpuserve.video.open_answers import open_answers
from cpuserve.video.seat_answers import AnswerTask, SeatAnswers, parts_of
from cpuserve.video.seats import plan_video_seats
from cpuserve.video.segments import Segment
from cpuserve.video.video_file import probe
from cpuserve.video.video_sources import VideoSource
from tests.conftest import ROOT
from tests.machine import trees
from tests.servers import masks

CPUS = sorted(os.sched_getaffinity(0))
OPTIONS = InferOptions()
several = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs")


def test_two_sockets_get_seats_on_both_and_none_across(tmp_path):
    trees.two_sockets(tmp_path)
    seats = plan_video_seats(Settings(), tmp_path).seats
    assert {seat.node for seat in seats} == {0, 1}
    for seat in seats:
        here = read_cpulist(tmp_path / f"sys/devices/system/node/node{seat.node}/cpulist")
        assert {*seat.cpus} <= {*(here or ())}


def test_a_machine_of_one_node_and_few_cores_is_one_seat(tmp_path):
    trees.one_cpu(tmp_path)
    (seat,) = plan_video_seats(Settings(), tmp_path).seats
    assert seat.cpus == (0,)


def test_the_settings_cut_the_seats(tmp_path):
    trees.two_sockets(tmp_path)
    assert {seat.node for seat in plan_video_seats(Settings(node_id=(1,)), tmp_path).seats} == {1}
    assert len(plan_video_seats(Settings(workers=6), tmp_path).seats) == 6


def segments(*starts, frames):
    stops = [*starts[1:], frames]
    return [
        Segment(place, start, stop, 0) for place, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


@pytest.mark.parametrize(
    ("starts", "frames", "start", "parts"),
    [
        ((0,), 900, 0, [(0, 900)]),
        ((0, 100, 200, 300, 400, 500), 600, 0, [(0, 300), (300, 600)]),
        ((0, 300, 600), 900, 0, [(0, 300), (300, 600), (600, 900)]),
        ((0, 300, 600), 900, 310, [(310, 600), (600, 900)]),
        ((0, 300, 600), 900, 900, []),
        ((0, 300, 600), 620, 0, [(0, 300), (300, 620)]),
    ],
)
def test_parts_are_whole_segments(data_dir, starts, frames, start, parts, monkeypatch):
    class File:
        pass

    video = File()
    video.frames, video.segments = frames, segments(*starts, frames=frames)
    made = parts_of(VideoSource("a.mp4", "a.mp4"), video, start)
    assert [(part.start, part.stop) for part in made] == parts


@pytest.fixture
def settings():
    return Settings(model_repository=ROOT / "ir_models", precision="f32")


@pytest.fixture
def clip(data_dir):
    path = data_dir / "video" / "street_cars.mp4"
    return VideoSource(str(path), path.name), probe(path)


def seats(count=2):
    return [Seat(place, None, (CPUS[place],), 1, None) for place in range(count)]


@pytest.mark.numeric
@several
def test_seats_answer_in_order_what_one_process_answers(settings, clip, monkeypatch):
    from cpuserve.video import seat_answers

    monkeypatch.setattr(seat_answers, "_PART_FRAMES", 100)
    options = InferOptions(every=7)
    assert len(parts_of(*clip, 0)) > 2
    with open_answers("digits", settings, options) as here:
        assert isinstance(here, LocalAnswers)
        wanted = [(frame.number, frame.pts, frame.answer) for frame in here.answer(*clip)]
    with SeatAnswers(seats(), AnswerTask("digits", settings, options)) as answers:
        assert [(frame.number, frame.pts, frame.answer) for frame in answers.answer(*clip)] == wanted
        assert [frame.number for frame in answers.answer(*clip, 700)] == [*range(700, 905, 7)]
        assert answers.child_ns() > 0
        assert [masks(pid) for pid in answers.processes()] == [{frozenset({cpu})} for cpu in CPUS[:2]]
        assert (answers.name, answers.version, answers.checksum) == (here.name, here.version, here.checksum)


def test_a_seat_that_is_killed_costs_the_video_alone(settings, clip):
    with SeatAnswers(seats(1), AnswerTask("digits", settings, OPTIONS)) as answers:
        with closing(answers.answer(*clip)) as frames:
            assert next(frames).number == 0
            os.kill(answers.processes()[0], signal.SIGKILL)
            with pytest.raises(
                VideoError, match=r"street_cars.mp4: the process of seat 0 was ended by SIGKILL"
            ):
                list(frames)
        assert next(answers.answer(*clip)).number == 0


def test_a_bad_video_is_told_and_the_seats_go_on(settings, clip, tmp_path, data_dir):
    bad = tmp_path / "cut.mp4"
    bad.write_bytes(Path(clip[0].name).read_bytes())
    video = probe(bad)
    bad.unlink()
    with SeatAnswers(seats(1), AnswerTask("digits", settings, OPTIONS)) as answers:
        with pytest.raises(VideoError, match=r"cut\.mp4"):
            [*answers.answer(VideoSource(str(bad), "cut.mp4"), video)]
        assert next(answers.answer(*clip)).number == 0


def test_a_model_that_cannot_be_opened_is_told(settings):
    with pytest.raises(UnknownModel, match="digit"):
        SeatAnswers(seats(1), AnswerTask("digit", settings, OPTIONS))


def test_seats_end_with_the_one_who_asked(settings):
    with SeatAnswers(seats(1), AnswerTask("digits", settings, OPTIONS)) as answers:
        (pid,) = answers.processes()
    assert not Path(f"/proc/{pid}").exists()


@several
def test_workers_are_processes_of_their_own(settings):
    from dataclasses import replace

    with open_answers("digits", replace(settings, workers=2), OPTIONS) as answers:
        assert isinstance(answers, SeatAnswers)
        assert len(answers.processes()) == 2
