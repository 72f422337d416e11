"""Units and shards follow from the inputs alone, and hold every row once."""

from __future__ import annotations

import pytest

from cpuserve.batch.sources import BatchInput
from cpuserve.batch.work_units import VideoParts, plan_units


def pictures(count):
    return [BatchInput(f"{number}.jpg", is_video=False) for number in range(count)]


def planned(inputs, parts=None, shard_rows=100, every=1):
    parts = parts or {}
    return [*plan_units(inputs, lambda video: parts[video.uri], shard_rows=shard_rows, every=every)]


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100, 1000])
@pytest.mark.parametrize("shard_rows", [1, 7, 32, 50, 5000])
def test_every_picture_is_in_one_unit_in_order(count, shard_rows):
    units = planned(pictures(count), shard_rows=shard_rows)
    assert [uri for unit in units for uri in unit.inputs] == [f"{number}.jpg" for number in range(count)]
    assert [unit.number for unit in units] == [*range(len(units))]
    rows = {}
    for unit in units:
        rows[unit.shard] = rows.get(unit.shard, 0) + unit.rows
    assert [*rows] == [*range(len(rows))]
    assert all(shard_rows <= held < shard_rows + 32 for held in [*rows.values()][:-1])


@pytest.mark.parametrize(("frames", "every"), [(1000, 1), (1000, 7), (511, 1), (100, 3), (1, 1)])
def test_parts_of_a_video_hold_each_wanted_frame_once(frames, every):
    parts = {"v.mp4": VideoParts(frames, range(0, frames, 100))}
    units = planned([BatchInput("v.mp4", is_video=True)], parts, every=every)
    bounds = [(unit.start, frames if unit.stop is None else unit.stop) for unit in units]
    assert [number for start, stop in bounds for number in range(start, stop)] == [*range(frames)]
    assert sum(unit.rows for unit in units) == -(-frames // every)
    assert all(stop - start >= min(frames, 256) for start, stop in bounds)
    assert units[-1].stop is None  # what is damaged at its end is found


def test_a_video_that_cannot_be_read_or_divided_is_one_unit():
    parts = {"bad.mp4": VideoParts(0, ()), "bare.avi": VideoParts(900, ())}
    units = planned([BatchInput(name, is_video=True) for name in parts], parts)
    assert [(unit.inputs, unit.start, unit.stop, unit.rows) for unit in units] == [
        (("bad.mp4",), 0, None, 1),
        (("bare.avi",), 0, None, 900),
    ]


def test_pictures_and_videos_keep_their_order():
    inputs = [*pictures(2), BatchInput("v.mp4", is_video=True), *pictures(40)[2:]]
    units = planned(inputs, {"v.mp4": VideoParts(30, ())})
    assert [unit.is_video for unit in units] == [False, True, False, False]
    assert [uri for unit in units for uri in unit.inputs] == [one.uri for one in inputs]
