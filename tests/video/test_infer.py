"""A run over videos: what is written, what goes on after an end, and what is said of bad videos."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cpuserve.errors import CpuserveError, UsageError, VideoError
from cpuserve.video.answered_frames import AnsweredFrame
from cpuserve.video.infer import InferOptions, LiveCounts, infer, open_files
from cpuserve.video.model_input import FrameFacts
from cpuserve.video.outputs.frame_outputs import plan_output
from cpuserve.video.video_sources import VideoSource

FRAMES = 9
OPTIONS = InferOptions()


class Killed(BaseException):
    """What ends a run as SIGKILL does: nothing is tidied up behind it."""


class Answers:
    """Answers `FRAMES` frames of every file; those named bad end early, and ``kill`` ends the run."""

    name, version, checksum = "m", 1, "c"

    def __init__(self, options=OPTIONS, kill=-1, interrupt=-1, pictures=False):
        self.options, self.kill, self.interrupt, self.pictures = options, kill, interrupt, pictures
        self.given = 0

    def answer(self, source, _video, start):
        for number in range(start, FRAMES):
            if number % self.options.every:
                continue
            if "bad" in source.name and number == 4:
                raise VideoError(f"{source.name}: frame 4 is damaged")
            if self.given == self.kill:
                raise Killed
            if self.given == self.interrupt:
                raise KeyboardInterrupt
            self.given += 1
            box = {
                "class_id": 1,
                "label": "car",
                "probability": 0.75,
                "box": [1.0 * number, 2.0, 30.5, 40.25],
            }
            answer = {"model": "m", "version": "1", "detections": [box] * (number % 3)}
            picture = np.full((48, 64, 3), number * 20, np.uint8) if self.pictures else None
            facts = FrameFacts(64, 48, 1000, 500)
            yield AnsweredFrame(number, number * 3, number / 10, facts, answer, picture=picture)

    def probe(self, source):
        if source.path.read_bytes() == b"":
            raise VideoError(f"{source.path}: there is no video in it")
        return SimpleNamespace(frame_rate=10.0, time_base=Fraction(1, 30), frames=FRAMES)

    def live_counts(self):
        return LiveCounts(dropped=5, reconnects=1) if self.given else LiveCounts()

    def child_ns(self):
        return 0


@pytest.fixture
def videos(tmp_path):
    made = []
    for name in ("a.mp4", "bad.mp4", "c.mp4", "empty.mp4", "z.mp4"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"video")
        made.append(VideoSource(str(tmp_path / name), name))
    return made


def run(videos, target, *, resume=False, overwrite=False, asked=None, directory=False, **answers):
    plan = plan_output(videos, target, None, directory=directory)
    files, record = open_files(plan, videos, asked or {"model": "m"}, resume=resume, overwrite=overwrite)
    made = Answers(pictures=plan.as_format == "mp4", **answers)
    return infer(videos, made, files, made.options, record=record)


def lines(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_every_frame_has_a_line_and_bad_videos_are_told(videos, tmp_path):
    summary = run(videos, tmp_path / "out.jsonl")
    assert [(Path(line["video"]).name, line["frame"]) for line in lines(tmp_path / "out.jsonl")] == [
        *(("a.mp4", number) for number in range(9)),
        *(("bad.mp4", number) for number in range(4)),
        *(("c.mp4", number) for number in range(9)),
        *(("z.mp4", number) for number in range(9)),
    ]
    first = lines(tmp_path / "out.jsonl")[1]
    assert [*first] == ["video", "frame", "pts", "time_s", "model", "version", "detections"]
    assert (first["pts"], first["time_s"]) == (3, 0.1)
    assert summary.errors == {
        videos[1].name: f"{videos[1].name}: frame 4 is damaged",
        videos[3].name: f"{videos[3].name}: there is no video in it",
    }
    said = summary.as_json()
    assert (said["videos"], said["frames"], said["dropped"], said["reconnects"]) == (5, 31, 5, 1)
    assert said["cpu_ms_per_frame"]["decode"] == 0.001
    assert said["cpu_ms_per_frame"]["total"] > 0


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
@pytest.mark.parametrize("kill", range(32))
def test_a_killed_run_that_is_resumed_equals_an_undisturbed_one(videos, tmp_path, name, kill):
    run(videos, tmp_path / "whole" / name) if (tmp_path / "whole").mkdir() is None else None
    target = tmp_path / name
    if kill < 31:
        with pytest.raises(Killed):
            run(videos, target, kill=kill)
    summary = run(videos, target, resume=True)
    assert summary.frames + summary.frames_before >= 31 - kill
    assert target.read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(summary.errors) == [videos[1].name, videos[3].name]
    assert {file.name for file in tmp_path.iterdir() if file.name.startswith("out")} == {
        name,
        f"{name}.run.json",
    }


@pytest.mark.parametrize("kills", [(0, 3), (8, 0, 0, 1), (5, 5, 5, 5, 5, 5)])
def test_a_run_may_be_killed_again_and_again(videos, tmp_path, kills):
    (tmp_path / "whole").mkdir()
    run(videos, tmp_path / "whole" / "out.csv")
    for place, kill in enumerate(kills):
        with pytest.raises(Killed):
            run(videos, tmp_path / "out.csv", kill=kill, resume=place > 0)
    run(videos, tmp_path / "out.csv", resume=True)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole" / "out.csv").read_bytes()


@pytest.mark.parametrize("kill", [0, 1, 4, 5, 8])
def test_tracks_and_zones_go_on_as_if_undisturbed(videos, tmp_path, kill):
    from cpuserve.video.region import Region

    options = InferOptions(track=True, zones={"left": Region.rectangle("left", (0, 0, 0.5, 1))})
    (tmp_path / "whole").mkdir()
    run(videos[:1], tmp_path / "whole" / "out.jsonl", options=options)
    with pytest.raises(Killed):
        run(videos[:1], tmp_path / "out.jsonl", options=options, kill=kill)
    run(videos[:1], tmp_path / "out.jsonl", options=options, resume=True)
    whole = (tmp_path / "whole" / "out.jsonl").read_bytes()
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert b'"track_id":' in whole
    assert b'"zones":{"left":2}' in whole


@pytest.mark.parametrize("kill", [0, 3, 4, 7, 8])
def test_a_killed_annotated_video_is_the_same_in_the_end(videos, tmp_path, kill, monkeypatch):
    from cpuserve.video.outputs import annotated_video, frame_outputs

    monkeypatch.setattr(annotated_video, "PART_FRAMES", 4)
    monkeypatch.setattr(frame_outputs, "PART_FRAMES", 4)
    (tmp_path / "whole").mkdir()
    run(videos[:1], tmp_path / "whole" / "out.mp4")
    with pytest.raises(Killed):
        run(videos[:1], tmp_path / "out.mp4", kill=kill)
    run(videos[:1], tmp_path / "out.mp4", resume=True)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole" / "out.mp4").read_bytes()


def test_a_directory_takes_a_file_a_video(videos, tmp_path):
    with pytest.raises(Killed):
        run(videos, tmp_path / "out", directory=True, kill=11)
    run(videos, tmp_path / "out", resume=True)
    found = {file.name: len(lines(file)) for file in (tmp_path / "out").glob("*.jsonl")}
    assert found == {
        "a.mp4.jsonl": 9,
        "bad.mp4.jsonl": 4,
        "c.mp4.jsonl": 9,
        "empty.mp4.jsonl": 0,
        "z.mp4.jsonl": 9,
    }


def test_a_complete_run_is_left_alone_and_its_errors_are_told_again(videos, tmp_path):
    run(videos, tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").stat().st_mtime_ns
    summary = run(videos, tmp_path / "out.jsonl", resume=True)
    assert summary.frames == 0
    assert sorted(summary.errors) == [videos[1].name, videos[3].name]
    assert (tmp_path / "out.jsonl").stat().st_mtime_ns == before


def test_an_output_that_is_there_is_neither_continued_nor_replaced_unasked(videos, tmp_path):
    target = tmp_path / "out.jsonl"
    run(videos[:1], target)
    with pytest.raises(
        UsageError, match=r"out.jsonl is there already: --resume continues it, --overwrite repl"
    ):
        run(videos[:1], target)
    target.with_name("out.jsonl.run.json").unlink()
    with pytest.raises(UsageError, match="--resume has no record of the run that wrote it"):
        run(videos[:1], target, resume=True)
    assert len(lines(target)) == 9
    run(videos[2:3], target, overwrite=True)
    assert {line["video"] for line in lines(target)} == {videos[2].name}


@pytest.mark.parametrize("name", ["out.csv", "out.mp4", "out.jsonl"])
def test_what_a_killed_run_has_prepared_is_not_lost_unasked(videos, tmp_path, name):
    with pytest.raises(Killed):
        run(videos[:1], tmp_path / name, kill=5)
    with pytest.raises(UsageError, match=r"out.* is there already: --resume continues it, --overwrite repl"):
        run(videos[:1], tmp_path / name)
    assert run(videos[:1], tmp_path / name, resume=True).frames_before == (0 if name == "out.mp4" else 5)


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("way", ["same", "link", "directory"])
def test_an_output_that_is_a_video_of_the_run_is_refused(videos, tmp_path, way, overwrite):
    own = Path(videos[0].name)
    target = own
    if way == "link":
        target = tmp_path / "link.mp4"
        target.symlink_to(own)
    if way == "directory":
        target, own = own.parent, own.rename(f"{own}.jsonl")
        videos = [VideoSource(str(own), "other"), VideoSource(videos[2].name, "a.mp4")]
    with pytest.raises(UsageError, match=r"the output .* is the video .*, which would be lost: give another"):
        run(videos[: 1 + (way == "directory")], target, directory=way == "directory", overwrite=overwrite)
    assert own.read_bytes() == b"video"


@pytest.mark.parametrize(
    ("asked", "count", "why"),
    [
        ({"model": "other"}, 1, 'model was "m" in the run that .*run.json records, and is "other" now'),
        ({"model": "m", "every": 2}, 1, "every was null in the run"),
        ({"model": "m"}, 2, "videos was "),
    ],
)
def test_a_run_that_asks_for_something_else_is_not_resumed(videos, tmp_path, asked, count, why):
    with pytest.raises(Killed):
        run(videos[:1], tmp_path / "out.jsonl", kill=2)
    with pytest.raises(UsageError, match=why):
        run(videos[:count], tmp_path / "out.jsonl", resume=True, asked=asked)


def test_a_video_that_changed_is_not_resumed(videos, tmp_path):
    with pytest.raises(Killed):
        run(videos[:1], tmp_path / "out.jsonl", kill=2)
    Path(videos[0].name).write_bytes(b"another video")
    with pytest.raises(UsageError, match="videos was"):
        run(videos[:1], tmp_path / "out.jsonl", resume=True)


def test_a_damaged_record_is_told(videos, tmp_path):
    with pytest.raises(Killed):
        run(videos[:1], tmp_path / "out.jsonl", kill=2)
    (tmp_path / "out.jsonl.run.json").write_text("{}")
    with pytest.raises(CpuserveError, match=r"run.json is no record of a run: remove it"):
        run(videos[:1], tmp_path / "out.jsonl", resume=True)


def test_an_output_that_cannot_be_written_is_refused_before_decoding(videos, tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "out.jsonl", tmp_path / "file" / "out.csv"):
        with pytest.raises(CpuserveError, match=r"out.* cannot be written"):
            run(videos, target, kill=0)


def test_the_user_may_end_a_run_over_files_and_go_on_later(videos, tmp_path):
    (tmp_path / "whole").mkdir()
    run(videos, tmp_path / "whole" / "out.jsonl")
    with pytest.raises(KeyboardInterrupt):
        run(videos, tmp_path / "out.jsonl", interrupt=11)
    run(videos, tmp_path / "out.jsonl", resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole" / "out.jsonl").read_bytes()


def test_a_live_source_that_the_user_ends_is_written_to_its_end(tmp_path):
    camera = [VideoSource("rtsp://camera/1", "camera", live=True)]
    summary = run(camera, tmp_path / "out.csv", interrupt=4)
    assert summary.interrupted
    assert summary.frames == 4
    assert (
        len((tmp_path / "out.csv").read_text().splitlines()) == 1 + 5
    )  # frames 0 to 3 have 0, 1, 2, 0 boxes


@pytest.mark.parametrize(
    ("target", "as_format", "why"),
    [
        ("out.csv", "parquet", "--format parquet does not fit the name out.csv"),
        ("out.mp4", None, "5 videos do not go into one file out.mp4: give a directory, as in -o out/"),
    ],
)
def test_outputs_that_cannot_be_meant(videos, target, as_format, why):
    with pytest.raises(UsageError, match=why):
        plan_output(videos, Path(target), as_format, directory=False)


def test_two_videos_of_one_name_do_not_share_a_file(tmp_path):
    twice = [VideoSource("a/x.mp4", "x.mp4"), VideoSource("b/x.mp4", "x.mp4")]
    with pytest.raises(UsageError, match=r"a/x.mp4 and b/x.mp4 would both be written to .*x.mp4.jsonl"):
        plan_output(twice, tmp_path, None, directory=True)


def test_every_is_kept_when_resumed(videos, tmp_path):
    options = InferOptions(every=3)
    with pytest.raises(Killed):
        run(videos[:1], tmp_path / "out.jsonl", options=options, kill=2)
    run(videos[:1], tmp_path / "out.jsonl", options=options, resume=True)
    assert [line["frame"] for line in lines(tmp_path / "out.jsonl")] == [0, 3, 6]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("kill", [11, None])
def test_what_was_moved_away_is_answered_anew(videos, tmp_path, name, kill):
    target = tmp_path / name
    if kill is None:
        run(videos, target)
    else:
        with pytest.raises(Killed):
            run(videos, target, kill=kill)
    for left in (target, tmp_path / f"{name}.parts" / "frames.jsonl"):
        left.unlink(missing_ok=True)
    assert run(videos, target, resume=True).frames == 31
    assert target.exists()


def test_a_live_source_that_was_killed_is_not_continued(videos, tmp_path):
    camera = [VideoSource("rtsp://camera/1", "camera", live=True)]
    with pytest.raises(Killed):
        run(camera, tmp_path / "out.jsonl", kill=4)
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(UsageError, match=r"what the live source rtsp://camera/1 sent meanwhile is gone"):
        run(camera, tmp_path / "out.jsonl", resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert run(camera, tmp_path / "out.jsonl", overwrite=True).frames
    assert run(camera, tmp_path / "out.jsonl", resume=True) is not None  # it has ended: nothing is to be done
