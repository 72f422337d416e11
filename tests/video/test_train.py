"""Training from a clip to a cascade: scores, files, labels that are kept, other queries without decoding."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video import train, training_clip
from cpuserve.video.cascade_file import Cascade
from cpuserve.video.guarantee import Budgets
from cpuserve.video.numpy_cnn import NumpyCnn
from cpuserve.video.own_labels import OwnLabels
from cpuserve.video.query import Query
from cpuserve.video.score_table import PARTS, ScoreTable
from cpuserve.video.specialised_cnn import SpecialisedCnn
from cpuserve.video.specialised_training import CnnSize, write_ir
from cpuserve.video.train import TrainingOptions, finish, label_again, learn
from cpuserve.video.training_clip import stage_0_notes
from cpuserve.video.training_files import Learnt, new_directory
from tests.video.made_clip import RedSquares, is_there, write_clip

pytestmark = pytest.mark.timeout(600)  # many trainings, which a busy machine makes long

FRAMES, SHORT = 1300, 520  # what is promised needs the longer time
TINY = CnnSize("tiny", 4, 8)
QUERY = Query.parse("square", labels=RedSquares.labels)


def ignore(*_: object) -> None:
    """Takes progress and shows none."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("short") / "clip.mp4", SHORT)


@pytest.fixture(scope="module")
def trained(clip, tmp_path_factory):
    """The directory of a training, and the reference that it asked."""
    folder = tmp_path_factory.mktemp("trained")
    reference = RedSquares()
    options = TrainingOptions(sizes=[TINY], answers=folder / "answers")
    with new_directory(folder / "red") as made:
        learnt = learn([clip], reference, reference.labels, QUERY, options, made, report=ignore)
        training = finish(learnt, Budgets(0.7, 0.7), made, ".npz")
    return folder / "red", reference, training, options


def test_labels_and_parts_are_those_of_the_reference(trained):
    table = trained[2].learnt.table
    wanted = np.array([is_there(number) for number in range(FRAMES)])
    assert table.number.tolist() == list(range(FRAMES))
    assert (table.label == wanted).mean() > 0.99  # compression blurs the square's first frame
    assert table.part.tolist() == sorted(table.part.tolist())
    assert set(table.part.tolist()) == {0, 1, 2}
    assert table.frame_rate == 25
    assert trained[1].asked >= FRAMES


def test_every_part_has_scores_and_costs(trained):
    table = trained[2].learnt.table
    assert {"global:1", "global:30", "global:reference", "blocked:reference", "blocked:10"} <= {
        *table.differences
    }
    assert {"average/all:1", "average/all:30"} <= {*table.differences}
    names = {column.partition("/")[0] for column in table.differences}
    assert {f"difference:{name}" for name in names} <= {*table.costs}
    assert {"decode:all", "decode:nonref", "decode:nonkey", "scale", "reference", "packets"} <= {*table.costs}
    assert all(cost >= 0 for cost in table.costs.values())
    assert table.costs["decode:nonkey"] < table.costs["decode:all"]
    test = table.part == PARTS.index("test")
    scores = table.specialised["tiny"]
    assert scores[test & table.label].min() > scores[test & ~table.label].max()
    looked = table.looked_at(30)
    assert np.isfinite(table.differences["global:30"][looked & (table.anchors("global:30", 30) >= 0)]).all()
    assert table.disposable.any()  # the clip has B-frames
    assert not table.disposable[table.key].any()


def test_where_decoding_less_has_no_effect_it_is_said():
    costs = {"decode:all": 0.010, "decode:nonref": 0.008}
    assert stage_0_notes(costs, np.array([False, True])) == []
    assert "has no effect: this video has none" in stage_0_notes(costs, np.zeros(9, bool))[0]
    assert costs["decode:nonref"] == costs["decode:all"]
    costs["decode:nonref"] = 0.011
    assert stage_0_notes(costs, np.array([False, True]))[0].endswith("it saves 0.0%")


def test_the_columns_hold_what_running_gives(trained):
    """A detector that runs over the frames alone, as it does in the decoder, gives the column's values."""
    learnt = trained[2].learnt
    table = learnt.table
    for name, every in (("global:10", 5), ("average", 10), ("blocked:reference", 1)):
        detector = learnt.detectors[name]
        column = table.difference(name, every)
        assert column is not None
        seen = np.flatnonzero(table.looked_at(every))
        for row in seen:
            if table.first[row] or row == seen[0]:
                detector.reset()
            found = detector.step(int(table.number[row]), learnt.pictures[row]).value
            assert np.float32(found) == column[row], (name, row)


def test_the_cascade_is_promised_and_cheap(trained):
    directory, _, training, _ = trained
    cascade = Cascade.load(directory)
    assert cascade.promise.promised
    assert cascade.query == "square"
    assert cascade.choice == training.chosen.choice
    assert training.chosen.speed_up > 1
    assert (directory / "report.html").read_text().startswith("<!doctype html>")
    summary = training.summary()
    assert json.loads(json.dumps(summary))["promise"]["promised"]


def test_a_second_training_asks_the_reference_nothing(clip, trained, tmp_path):
    _, first, training, options = trained
    reference = RedSquares()
    again = learn([clip], reference, reference.labels, QUERY, options, tmp_path, report=ignore)
    assert reference.asked < 40 < first.asked  # its cost alone is measured
    assert np.array_equal(again.table.label, training.learnt.table.label)
    assert np.array_equal(again.table.specialised["tiny"], training.learnt.table.specialised["tiny"])


def test_other_budgets_need_neither_video_nor_model(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "probe_apart", None)
    with new_directory(tmp_path / "other") as made:
        training = finish(Learnt.load(trained[0] / "scores.npz"), Budgets(0.01, 0.01), made, ".parquet")
    assert not training.chosen.promise.promised  # too little was labelled for that
    assert training.summary()["promise"] is None
    assert training.chosen.promise.more_minutes > 0
    table = ScoreTable.load(tmp_path / "other" / "scores.parquet")
    assert np.array_equal(table.label, trained[2].learnt.table.label)
    assert Cascade.load(tmp_path / "other").promise.fn == 0.01


def test_another_query_needs_no_decoding(trained, tmp_path, monkeypatch):
    directory, _, training, options = trained
    monkeypatch.setattr(training_clip, "decode", None)
    query = Query.parse("square@0,0,0.5,1", labels=RedSquares.labels)
    again = label_again(Learnt.load(directory / "scores.npz"), query, options, tmp_path, report=ignore)
    assert 0 < again.table.label.sum() < training.learnt.table.label.sum()
    assert again.table.query == again.facts.query.text == "square@0,0,0.5,1"
    assert again.table.costs["decode:all"] == training.learnt.table.costs["decode:all"]
    with pytest.raises(UsageError, match=r"frame 0 has no answer .* --answers"):
        label_again(
            Learnt.load(directory / "scores.npz"),
            query,
            TrainingOptions(sizes=[TINY], answers=tmp_path / "empty"),
            tmp_path,
            report=ignore,
        )


def test_a_clip_that_always_has_the_object_is_refused_with_the_count(short, tmp_path):
    always = OwnLabels(
        tmp_path / "a.csv", {n: [{"label": "x", "probability": 1, "box": None}] for n in range(SHORT)}, True
    )
    options = TrainingOptions(sizes=[TINY], own_labels=[always])
    with pytest.raises(UsageError, match="0 of 208 labelled training frames are without it"):
        learn([short], RedSquares(), (), Query.parse("x"), options, tmp_path, report=ignore)


def test_labels_of_the_users_own_leave_frames_out(short, tmp_path):
    objects: dict[int, list[dict[str, object]]] = {
        number: [{"label": "x", "probability": 1.0, "box": None}] if is_there(number) else []
        for number in range(SHORT)
        if not 300 <= number < 320
    }
    reference = RedSquares()
    options = TrainingOptions(sizes=[], own_labels=[OwnLabels(tmp_path / "a.csv", objects, False)])
    learnt = learn([short], reference, (), Query.parse("x"), options, tmp_path, report=ignore)
    table = learnt.table
    assert len(table) == SHORT - 20
    assert table.first[table.number == 320].all()
    assert table.labelled.all()
    assert reference.asked < 40
    assert "20 frames without a label were left out" in table.notes
    with pytest.raises(UsageError, match="the labels were your own"):
        label_again(learnt, Query.parse("y"), options, tmp_path, report=ignore)
    with pytest.raises(UsageError, match="1 files of --labels were given for 2 videos"):
        learn([short, short], reference, (), Query.parse("x"), options, tmp_path, report=ignore)


def test_two_videos_are_learnt_from_and_minutes_of_them_labelled(short, tmp_path):
    other = write_clip(tmp_path / "other.mp4", 390, seed=0)
    reference = RedSquares()
    options = TrainingOptions(sizes=[], answers=tmp_path / "answers", most_labels=600)
    learnt = learn([short, other], reference, (), QUERY, options, tmp_path, report=ignore)
    table = learnt.table
    assert 500 <= len(table) <= 600
    assert table.videos == ("clip.mp4", "other.mp4")
    assert set(table.video.tolist()) == {0, 1}
    assert any("--most-labels 600" in note for note in table.notes)
    assert [video.width for video in learnt.facts.videos] == [160, 160]


def test_a_network_of_the_users_own_is_scored_beside_the_trained_one(short, tmp_path):
    mine = tmp_path / "mine.xml"
    network = NumpyCnn.made(np.full((50, 50, 3), 0.3, np.float32), 4, 8, seed=3)
    write_ir(network, mine)
    options = TrainingOptions(sizes=[TINY], own_cnns=[mine], answers=tmp_path / "answers")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    again = learn([short], RedSquares(), (), QUERY, options, scratch, report=ignore)
    assert {*again.table.specialised} == {"tiny", "background", "mine"}
    wanted = SpecialisedCnn(mine).predict(np.asarray(again.pictures[:64]))
    assert again.table.specialised["mine"][:64] == pytest.approx(wanted, abs=1e-5)
    write_ir(network, tmp_path / "tiny.xml")
    twice = TrainingOptions(sizes=[TINY], own_cnns=[tmp_path / "tiny.xml"], answers=options.answers)
    with pytest.raises(UsageError, match="two specialised networks are named tiny"):
        learn([short], RedSquares(), (), QUERY, twice, scratch, report=ignore)


@pytest.mark.parametrize("shares", [(0, 0.5), (0.5, 0), (0.5, 0.5), (0.9, 0.3), (float("nan"), 0.2)])
def test_shares_leave_time_for_each_part(shares):
    with pytest.raises(UsageError, match="leave some time for the proof"):
        TrainingOptions(train_share=shares[0], choose_share=shares[1])
