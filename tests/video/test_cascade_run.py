"""A run labels each frame as the replay of its scores does, and asks the reference no more than it has to."""

from bisect import bisect_right

import av
import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.cascade_choice import Choice, DecidedBy, PacketRule, replay
from cpuserve.video.cascade_run import CascadeRun
from cpuserve.video.cascade_stage import REFERENCE_PICTURE, CascadeStage, Decision, Thresholds
from cpuserve.video.decoding import decode
from cpuserve.video.frame_labels import FrameLabels
from cpuserve.video.scale import Scale
from cpuserve.video.video_file import probe
from tests.video.small_cascade import BrightReference, score_table, write_small_cascade
from tests.video.stages import Numbers

CLIP = "one-by-one-person-detection.mp4"
LIMIT, NETWORK_LIMIT = 87.0, 98.5
CHOICES = [
    Choice(detector="global:10", delta=20.0, cnn="one", c_low=0.2, c_high=0.8),
    Choice(every=5, detector="global:10", delta=20.0, cnn="one", c_low=0.2, c_high=0.8),
    Choice(every=3, which="nonref", detector="average", delta=1300.0, cnn="one", c_low=0.4, c_high=0.6),
    Choice(which="nonkey", cnn="one", c_low=0.5, c_high=0.9),
    Choice(every=10, which="nonref"),
    Choice(every=2, packets=PacketRule(0.1, 0.9), detector="global:10", delta=20.0),
    Choice(looks=(2, 10, 18, 27), cnn="one", c_low=0.2, c_high=0.8),
    Choice(looks=(2, 7, 12, 17, 22, 27), cnn="one", c_low=0.05, c_high=0.99, most_asked=2),
    Choice(looks=(2, 7, 12, 17, 22, 27), cnn="one", c_low=0.05, c_high=0.99, most_asked=2, c_half=0.6),
    Choice(looks=(2, 27)),
]


def labelled(directory, choice, video, reference, **options):
    cascade = write_small_cascade(directory, choice, NETWORK_LIMIT)
    run = CascadeRun(directory, cascade, reference, **options)
    return run, list(run.label(probe(video)))


@pytest.fixture(scope="module")
def seven_segments(data_dir, tmp_path_factory):
    """The first half of the clip, as its packets are."""
    path = tmp_path_factory.mktemp("half") / CLIP
    with av.open(str(data_dir / "video" / CLIP)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        keys = 0
        for packet in source.demux(stream):
            keys += packet.is_keyframe
            if keys > 70:  # one in ten frames is such a packet, and one in a hundred starts a segment
                break
            packet.stream = copied
            target.mux(packet)
    return path


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_run_decides_as_the_replay_of_its_scores(seven_segments, tmp_path, choice):
    video = seven_segments
    reference = BrightReference(LIMIT)
    run, frames = labelled(tmp_path, choice, video, reference, audit_rate=0)
    wanted = replay(score_table(video, tmp_path, choice, BrightReference(LIMIT)), choice)
    assert [frame.number for frame in frames] == list(range(len(wanted.labels))) == list(range(700))
    np.testing.assert_array_equal([frame.stage for frame in frames], wanted.stages)
    np.testing.assert_array_equal([frame.label for frame in frames], wanted.labels)
    assert 0.05 < wanted.labels.mean() < 0.9
    assert reference.asked == int((wanted.stages == DecidedBy.REFERENCE).sum())
    assert run.counts.by_stage[DecidedBy.REFERENCE] == reference.asked
    assert run.counts.frames == len(frames)
    assert run.audit is None


def test_audited_frames_keep_their_labels_and_tell_what_the_reference_says(data_dir, tmp_path):
    video = data_dir / "video" / CLIP
    choice = CHOICES[1]
    _, plain = labelled(tmp_path, choice, video, BrightReference(LIMIT), audit_rate=0)
    run, frames = labelled(tmp_path, choice, video, BrightReference(LIMIT), audit_rate=0.05, processes=2)
    assert [(one.stage, one.label) for one in frames] == [(one.stage, one.label) for one in plain]
    audited = [one for one in frames if one.audit]
    assert 0.03 * len(frames) < len(audited) < 0.12 * len(frames)
    assert {one.stage for one in audited} >= {DecidedBy.SKIPPED, DecidedBy.DIFFERENCE}
    assert all(one.truth is not None for one in audited)
    assert sum(seen.audited for seen in run.audit.by_stage.values()) == len(audited) == run.counts.audited
    _, again = labelled(tmp_path, choice, video, BrightReference(LIMIT), audit_rate=0.05, processes=1)
    assert [one.number for one in again if one.audit] == [one.number for one in audited]


@pytest.mark.parametrize("clip", [CLIP, "highway.avi"])
def test_looks_are_audited_too_and_a_run_that_was_ended_goes_on_the_same(data_dir, tmp_path, clip):
    """Also of a file whose packets do not tell how many frames there are."""
    video = probe(data_dir / "video" / clip)
    choice = Choice(looks=(2, 10, 18, 27), cnn="one", c_low=0.1, c_high=0.9)
    run, frames = labelled(tmp_path, choice, video.path, BrightReference(LIMIT), audit_rate=0.1)
    assert [frame.number for frame in frames] == list(range(len(frames)))
    audited = [one for one in frames if one.audit]
    assert {one.stage for one in audited} == {DecidedBy.SKIPPED, DecidedBy.SPECIALISED}
    assert all(one.truth is not None for one in audited)
    spared = [one for one in frames if one.stage == DecidedBy.SKIPPED and 0.1 <= one.specialised <= 0.9]
    assert any(one.audit for one in spared) == (clip == CLIP)  # of the other file none is spared
    assert not all(one.audit for one in spared) or not spared
    assert run.counts.decoders_ns > 0
    start = video.segments[1].start
    run = CascadeRun(tmp_path, write_small_cascade(tmp_path, choice, NETWORK_LIMIT), BrightReference(LIMIT))
    again = list(run.label(video, start, label_before=frames[start - 1].label))
    assert [(one.number, one.stage, one.label) for one in again] == [
        (one.number, one.stage, one.label) for one in frames[start:]
    ]


@pytest.mark.parametrize("clip", [CLIP, "highway.avi"])
def test_skipped_frames_do_not_travel_and_the_last_of_each_segment_does(data_dir, tmp_path, clip):
    choice = Choice(looks=(2, 10, 18), cnn="one", c_low=0.1, c_high=0.9)
    cascade = write_small_cascade(tmp_path, choice, NETWORK_LIMIT)
    video = probe(data_dir / "video" / clip)
    stage = CascadeStage(tmp_path, cascade, Thresholds.of(cascade))
    told = {one.number: one.value for one in decode(video.path, stage, processes=2)}
    whole = [one.number for one in decode(video.path, Numbers(), processes=2)]
    looks = {number for number in whole if number % 30 in choice.looks}
    assert looks < told.keys()
    assert max(told) == whole[-1]
    late = told.keys() - looks
    assert 1 <= len(late) <= len(video.segments)
    assert {told[number].stage for number in late} == {DecidedBy.SKIPPED}
    assert all(told[number].cpu_ns > 0 for number in late)


@pytest.mark.parametrize(
    ("clip", "choice"),
    [
        (CLIP, Choice(looks=(2, 7, 12, 17, 22, 27), cnn="one", c_low=0.3, c_high=0.99, most_asked=2)),
        ("highway.avi", Choice(looks=(2, 7, 12, 17, 22, 27), most_asked=2)),
    ],
)
def test_pictures_are_made_only_of_looks_that_the_reference_may_be_asked_about(
    data_dir, tmp_path, clip, choice
):
    cascade = write_small_cascade(tmp_path, choice, NETWORK_LIMIT)
    video = probe(data_dir / "video" / clip)
    stage = CascadeStage(tmp_path, cascade, Thresholds.of(cascade))
    decided, pictures = {}, {}
    for one in decode(video.path, stage, processes=2):
        decided[one.number] = one.value
        for name in one.pictures:
            pictures[one.number if name == REFERENCE_PICTURE else int(name)] = one.number
    wanted = set()
    starts = [segment.start for segment in video.segments]
    windows = {(number // 30, bisect_right(starts, number)) for number in decided}
    for window, segment in windows:
        seen = [
            number
            for number in decided
            if (number // 30, bisect_right(starts, number)) == (window, segment)
            and number % 30 in choice.looks
        ]
        found = [number for number in seen if decided[number].stage == DecidedBy.REFERENCE]
        if not any(decided[one].stage == DecidedBy.SPECIALISED and not decided[one].label for one in seen):
            wanted |= {*sorted(found, key=lambda number: decided[number].specialised)[:2]}
    opened = {number for number, one in decided.items() if one.stage == DecidedBy.REFERENCE}
    assert pictures.keys() == wanted
    assert len(wanted) < len(opened)
    assert all(number <= came for number, came in pictures.items())


def test_the_reference_has_to_be_the_one_of_the_training(data_dir, tmp_path):
    cascade = write_small_cascade(tmp_path, CHOICES[0])
    other = BrightReference()
    other.checksum = "cd" * 32
    with pytest.raises(
        UsageError, match="bright is not the bright version 1 that the cascade was trained with"
    ):
        CascadeRun(tmp_path, cascade, other)
    other = BrightReference()
    other.scale = Scale(64, 64)
    with pytest.raises(UsageError, match=r"takes Scale\(width=64"):
        CascadeRun(tmp_path, cascade, other)


def test_a_live_source_is_labelled_and_what_is_dropped_is_counted(data_dir, tmp_path):
    clip = tmp_path / "street.ts"
    with av.open(str(data_dir / "video" / "street_cars.mp4")) as source, av.open(str(clip), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    choice = Choice(cnn="one", c_low=0.5, c_high=0.5)
    cascade = write_small_cascade(tmp_path, choice, 124.0)
    whole = list(CascadeRun(tmp_path, cascade, BrightReference(), audit_rate=0).label(probe(clip)))
    run = CascadeRun(tmp_path, cascade, BrightReference(), audit_rate=0.1, live_timeout_s=0.5)
    live = list(run.label_live(str(clip)))
    numbers = [frame.number for frame, _ in live]
    assert numbers == sorted(set(numbers))
    assert len(live) + run.counts.dropped == len(whole)
    assert len(live) == run.counts.frames > 0
    assert all(whole[frame.number].label == frame.label for frame, _ in live)
    assert all(decoded.time_s == pytest.approx(frame.number / 24, abs=0.1) for frame, decoded in live)


def test_labels_of_dropped_frames_are_not_waited_for():
    """A frame that copies the label of one that was dropped copies the latest label."""
    labels = FrameLabels(live=True)
    sure = Decision(DecidedBy.SPECIALISED, True, -1, 0, 0.9, 0, 0.0, 8, 8)
    labels.add(3, sure)
    labels.add(9, sure._replace(stage=DecidedBy.DIFFERENCE, anchor=6, label=False))
    assert [(frame.number, frame.label) for frame in labels.ready()] == [(3, True), (9, True)]
    strict = FrameLabels()
    strict.add(1, sure)
    assert [frame.number for frame in strict.ready()] == [0, 1]


def test_packets_of_a_live_source_are_not_guessed(tmp_path):
    cascade = write_small_cascade(tmp_path, CHOICES[5])
    run = CascadeRun(tmp_path, cascade, BrightReference())
    with pytest.raises(UsageError, match="packets, which the live source rtsp://camera does not have"):
        next(run.label_live("rtsp://me:secret@camera"))
