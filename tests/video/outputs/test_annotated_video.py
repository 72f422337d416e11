"""Annotated videos: times, sizes, what is drawn, and parts that survive a killed writer."""

from __future__ import annotations

import ctypes
from fractions import Fraction
from functools import partial
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from cpuserve.errors import CpuserveError
from cpuserve.video.outputs import annotated_video
from cpuserve.video.outputs.annotated_video import AnnotatedVideo

BASE = Fraction(1001, 30000)
TIMES = [7, 8, 9, 12, 15, 16, 17, 18, 30, 31, 40]  # uneven, and not from 0 on
NOTHING: dict[str, object] = {"detections": []}


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(annotated_video, "PART_FRAMES", 4)


def picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.ascontiguousarray(
        np.broadcast_to(np.array([number * 20, 50, 200 - number * 10], np.uint8), (height, width, 3))
    )


def write(folder, numbers, width=64, height=48):
    video = AnnotatedVideo(folder)
    for number in numbers:
        video.append(picture(number, width, height), NOTHING, None, TIMES[number], BASE)
    return video


def read(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        return [
            (float((frame.pts or 0) * stream.time_base), frame.to_ndarray(format="bgr24"))
            for frame in container.decode(stream)
        ]


def joined(video, path):
    video.end_part()
    video.join(path, [float(TIMES[place] * BASE) for place in range(0, len(TIMES), 4)])
    return path


def test_frames_keep_their_times_and_order(tmp_path):
    found = read(joined(write(tmp_path, range(11)), tmp_path / "out.mp4"))
    assert [time for time, _ in found] == pytest.approx([float((pts - 7) * BASE) for pts in TIMES], abs=1e-4)
    for number, (_, pixels) in enumerate(found):
        assert pixels.mean((0, 1)) == pytest.approx(picture(number)[0, 0], abs=8)


@pytest.mark.parametrize("times", [[0, 1, 1, 2, 3, 3, 4], [0, 1, 2, 3, 3, 3, 3], [5, 4, 3, 9, 8, 10, 11]])
def test_frames_of_one_time_are_kept_and_shown_one_after_the_other(tmp_path, times):
    video = AnnotatedVideo(tmp_path)
    for number, pts in enumerate(times):
        video.append(picture(number), NOTHING, None, pts, BASE)
    video.end_part()
    video.join(tmp_path / "out.mp4", [float(times[0] * BASE), float(times[4] * BASE)])
    found = read(tmp_path / "out.mp4")
    assert len(found) == len(times)
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(found))
    for number, (_, pixels) in enumerate(found):
        assert pixels.mean((0, 1)) == pytest.approx(picture(number)[0, 0], abs=8)


@pytest.mark.parametrize("kept", range(1, 11))
def test_a_killed_writer_can_be_continued_and_the_video_is_the_same(tmp_path, kept):
    whole = tmp_path / "whole"
    whole.mkdir()
    reference = joined(write(whole, range(11)), whole / "out.mp4").read_bytes()
    killed = tmp_path / "killed"
    killed.mkdir()
    first = write(killed, range(kept))  # its last part is never ended
    first._container.close() if first._container else None
    again = AnnotatedVideo(killed)
    assert again.parts == kept // 4
    for number in range(again.parts * 4, 11):
        again.append(picture(number), NOTHING, None, TIMES[number], BASE)
    assert joined(again, killed / "out.mp4").read_bytes() == reference


M_PERTURB = -6  # of mallopt: memory is filled when it is taken


@pytest.fixture
def filled():
    """Fills all memory that is taken with a byte; 0 leaves what others wrote there."""
    fill = partial(ctypes.CDLL(None).mallopt, M_PERTURB)
    yield fill
    fill(0)


def test_a_video_is_the_same_whatever_was_in_memory_before(tmp_path, filled):
    noise = np.random.default_rng(0).integers(0, 255, (46, 56, 3), np.uint8)
    whole = cv2.resize(noise, (448, 368), interpolation=cv2.INTER_CUBIC)
    made = set()
    for byte in (0, 1, 85, 170):
        folder = tmp_path / str(byte)
        folder.mkdir()
        assert filled(byte)
        video = AnnotatedVideo(folder)
        for number in range(8):
            moved = whole[number : number + 240, 2 * number : 2 * number + 320]
            video.append(moved.copy(), NOTHING, None, TIMES[number], BASE)
        filled(0)
        made.add(joined(video, folder / "out.mp4").read_bytes())
    assert len(made) == 1


@pytest.mark.parametrize(("width", "height"), [(63, 47), (64, 47), (63, 48), (1, 1)])
def test_odd_sizes_become_even_and_no_pixel_is_lost(tmp_path, width, height):
    _, pixels = read(joined(write(tmp_path, [3], width, height), tmp_path / "out.mp4"))[0]
    assert pixels.shape[:2] == (height + height % 2, width + width % 2)
    assert pixels.mean((0, 1)) == pytest.approx(picture(3)[0, 0], abs=8)


def test_boxes_and_masks_are_drawn(tmp_path):
    video = AnnotatedVideo(tmp_path)
    grey = np.full((200, 300, 3), 128, np.uint8)
    box = {"class_id": 0, "label": "car", "probability": 0.5, "box": [60, 80, 200, 180], "track_id": 4}
    mask = np.zeros((200, 300), np.uint8)
    mask[150:, 250:] = 1
    video.append(grey, {"detections": [box]}, mask, 0, BASE)
    _, pixels = read(joined(video, tmp_path / "out.mp4"))[0]
    changed = np.abs(pixels.astype(int) - 128).max(-1) > 25
    assert changed[178:182, 80:180].any()
    assert changed[160:190, 260:290].all()
    assert not changed[100:160, 80:180].any()


def test_a_part_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CpuserveError, match=r"000000.mp4 cannot be written: No such file"):
        write(tmp_path / "nowhere", [0]).end_part()


def test_without_frames_there_is_no_file(tmp_path):
    AnnotatedVideo(tmp_path).join(tmp_path / "out.mp4", [])
    assert [*tmp_path.iterdir()] == []


def test_without_an_encoder_other_formats_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(annotated_video.av, "codecs_available", set())
    with pytest.raises(CpuserveError, match=r"none of the encoders libx264.*write jsonl, csv or parquet"):
        write(tmp_path, [0])
