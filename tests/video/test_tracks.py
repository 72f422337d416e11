"""Tracks and zones by supervision and trackers, and what they are given."""

from __future__ import annotations

import copy
import sys

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.video.region import Region
from cpuserve.video.tracks import Tracks, Zones, to_supervision


def answer(*boxes, probability=0.9):
    rows = [
        {"class_id": place, "label": f"c{place}", "probability": probability, "box": [*map(float, box)]}
        for place, box in enumerate(boxes)
    ]
    return {"model": "m", "detections": rows}


def moving(frame):
    """Two boxes that move towards each other and change their places in the answer, and one for once."""
    boxes = [(10 + 5 * frame, 10, 50 + 5 * frame, 50), (400 - 5 * frame, 200, 440 - 5 * frame, 250)]
    if frame % 2:
        boxes.reverse()
    if frame == 4:
        boxes.insert(1, (600, 400, 620, 420))
    return answer(*boxes)


def test_an_answer_is_what_supervision_takes():
    found = to_supervision(answer((1, 2, 3, 4), (5, 6, 7, 8)))
    assert found.xyxy.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.9])
    assert found.class_id.tolist() == [0, 1]
    assert found.data["class_name"].tolist() == ["c0", "c1"]
    assert found.tracker_id is None
    assert len(to_supervision(answer())) == len(to_supervision({"predictions": []})) == 0


def test_tracked_boxes_keep_their_numbers():
    tracked = moving(0)
    tracked["detections"][0]["track_id"] = 7
    tracked["detections"][1]["track_id"] = None
    assert to_supervision(tracked).tracker_id.tolist() == [7, -1]


def follow(frames, tracks=None, again=()):
    tracks = tracks or Tracks(30.0)
    for frame in again:
        tracks.add(frame, frame["time_s"])
    made = []
    for frame in frames:
        line = moving(frame) | {"time_s": frame / 30}
        tracks.add(line, line["time_s"])
        made.append(line)
    return made


def test_a_box_keeps_its_number_wherever_it_is_in_the_answer():
    numbers: dict[bool, set[int]] = {True: set(), False: set()}
    for line in follow(range(12))[2:]:
        for row in line["detections"]:
            if row["track_id"] is not None:
                numbers[row["box"][1] == 10].add(row["track_id"])
    assert all(len(found) == 1 for found in numbers.values())
    assert numbers[True] != numbers[False]


def test_a_track_that_is_continued_is_that_of_an_undisturbed_run():
    whole = follow(range(12))
    for place in range(12):
        before = copy.deepcopy(whole[:place])
        assert follow(range(place, 12), again=before) == whole[place:]


def test_each_video_counts_from_the_start():
    assert follow(range(6)) == follow(range(6))


def test_frames_without_boxes_are_taken():
    tracks = Tracks(30.0)
    for time_s, line in enumerate([answer(), moving(0), answer(), moving(1)]):
        tracks.add(line, time_s / 30)
    tracks.add({"predictions": []}, 1.0)


def test_a_box_is_in_the_zone_in_which_it_stands():
    zones = Zones(
        {
            "left": Region.rectangle("left", (0, 0, 0.5, 1)),
            "ground": Region.polygon("ground", [(0, 0.5), (1, 0.5), (1, 1), (0, 1)]),
        }
    )
    line = answer((0, 0, 20, 90), (60, 0, 80, 20), (60, 30, 80, 80))
    zones.add(line, 100, 100)
    assert [row["zones"] for row in line["detections"]] == [["left", "ground"], [], ["ground"]]
    assert line["zones"] == {"left": 1, "ground": 2}
    twice = answer((0, 0, 40, 180))
    zones.add(twice, 200, 200)  # frames of another size
    assert twice["detections"][0]["zones"] == ["left", "ground"]
    empty = answer()
    zones.add(empty, 200, 200)
    assert empty["zones"] == {"left": 0, "ground": 0}
    zones.add(other := {"predictions": []}, 200, 200)
    assert other == {"predictions": []}


@pytest.mark.parametrize(
    ("module", "make", "why"),
    [
        ("trackers", lambda: Tracks(30.0), r"pip install --no-deps trackers"),
        ("supervision", lambda: Zones({}), r"install .*cpuserve\[zones\]"),
        ("supervision", lambda: to_supervision({}), r"install .*cpuserve\[zones\]"),
    ],
)
def test_a_library_that_is_missing_is_named(monkeypatch, module, make, why):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CpuserveError, match=why):
        make()
