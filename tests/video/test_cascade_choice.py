"""A replay decides each frame as a loop over the frames would, and counts what it costs."""

import dataclasses

import numpy as np
import pytest

from cpuserve.video.cascade_choice import (
    REFERENCE_ONLY,
    Choice,
    DecidedBy,
    PacketRule,
    cost_per_frame,
    replay,
)
from tests.video.made_scores import COSTS, made_table

CHOICES = [
    REFERENCE_ONLY,
    Choice(every=10),
    Choice(which="nonref"),
    Choice(which="nonkey"),
    Choice(detector="global:10", delta=2.0),
    Choice(every=5, detector="global:10", delta=2.0, cnn="small", c_low=0.2, c_high=0.8),
    Choice(detector="blocked:reference", delta=1.0, cnn="small", c_low=0.4, c_high=0.6),
    Choice(cnn="small", c_low=0.5, c_high=0.5),
    Choice(packets=PacketRule(0.3, 0.7), detector="global:10", delta=3.0, cnn="small", c_low=0.1, c_high=0.9),
    Choice(every=2, which="nonref", detector="global:10", delta=1.0),
]


def frame_by_frame(table, choice):
    """What a program that sees one frame after the other says."""
    looked = table.looked_at(choice.every, choice.which)
    labels, stages, last = [], [], None
    if choice.detector:
        anchors = table.anchors(choice.detector, choice.every, choice.which)
        scores = table.difference(choice.detector, choice.every, choice.which)
    for row in range(len(table)):
        if not looked[row]:
            labels.append(labels[last])
            stages.append(DecidedBy.SKIPPED)
            continue
        last = row
        label, stage = None, None
        if choice.packets:
            if table.packets[row] < choice.packets.low:
                label, stage = False, DecidedBy.PACKETS
            elif table.packets[row] > choice.packets.high:
                label, stage = True, DecidedBy.PACKETS
        if stage is None and choice.detector and scores[row] < choice.delta:
            if choice.detector == "blocked:reference":
                label, stage = False, DecidedBy.DIFFERENCE
            elif anchors[row] >= 0:
                label, stage = labels[anchors[row]], DecidedBy.DIFFERENCE
        if stage is None and choice.cnn:
            probability = table.specialised[choice.cnn][row]
            if probability < choice.c_low or probability > choice.c_high:
                label, stage = not probability < choice.c_low, DecidedBy.SPECIALISED
        if stage is None:
            label, stage = table.label[row], DecidedBy.REFERENCE
        labels.append(bool(label))
        stages.append(stage)
    return labels, stages


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_replay_is_what_a_loop_over_the_frames_says(choice):
    table = made_table(2000)
    found = replay(table, choice)
    labels, stages = frame_by_frame(table, choice)
    assert found.labels.tolist() == labels
    assert found.stages.tolist() == [int(stage) for stage in stages]
    assert sum(found.share(stage) for stage in DecidedBy) == pytest.approx(1)


def test_the_reference_alone_is_right_everywhere():
    table = made_table(500)
    assert replay(table, REFERENCE_ONLY).labels.tolist() == table.label.tolist()
    assert REFERENCE_ONLY.decides_nothing
    assert not Choice(every=2).decides_nothing


def test_a_segment_copies_nothing_from_before_it():
    table = made_table(label=np.arange(600) < 300, segment=300)
    same = {"global:10": np.zeros(600, np.float32)}
    found = replay(dataclasses.replace(table, differences=same), Choice(detector="global:10", delta=1.0))
    assert found.labels.tolist() == table.label.tolist()
    assert np.count_nonzero(found.stages == DecidedBy.REFERENCE) == 20
    assert found.roots[299] == 9
    assert found.roots[599] == 309


def test_each_part_costs_what_the_frames_that_reach_it_cost():
    table = made_table(1000)
    choice = Choice(every=5, detector="global:10", delta=1.0, cnn="small", c_low=0.2, c_high=0.8)
    found = replay(table, choice)
    looked = 1 - found.share(DecidedBy.SKIPPED)
    asked = looked - found.share(DecidedBy.DIFFERENCE)
    expected = COSTS["decode:all"] + looked * (COSTS["scale"] + COSTS["difference:global:10"])
    expected += asked * COSTS["specialised:small"] + found.share(DecidedBy.REFERENCE) * COSTS["reference"]
    assert cost_per_frame(table, choice, found.stages) == pytest.approx(expected)
    assert cost_per_frame(table, REFERENCE_ONLY, replay(table, REFERENCE_ONLY).stages) == pytest.approx(
        0.0258
    )
    nonkey = Choice(which="nonkey")
    cheap = COSTS["decode:nonkey"] + COSTS["reference"] * 4 / 1000
    assert cost_per_frame(table, nonkey, replay(table, nonkey).stages) == pytest.approx(cheap)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(cnn="none"),
        Choice(detector="global:7", delta=1.0),
        Choice(every=3, detector="global:10", delta=1.0),
        Choice(packets=PacketRule(0.1, 0.9)),
    ],
)
def test_parts_without_scores_are_refused(choice):
    with pytest.raises(KeyError):
        replay(dataclasses.replace(made_table(100), packets=None), choice)
