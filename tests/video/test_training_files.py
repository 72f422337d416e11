"""The directory of a training appears whole or not at all, and damaged ones are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.cascade_file import ReferenceModel
from cpuserve.video.difference import make_detector
from cpuserve.video.query import Query
from cpuserve.video.region import Region
from cpuserve.video.scale import Scale
from cpuserve.video.training_files import Learnt, TrainingFacts, VideoFacts, new_directory
from tests.video.test_score_table import made_table


def made_learnt() -> Learnt:
    region = Region.polygon("door", [(0, 0), (1, 0), (0, 1)])
    facts = TrainingFacts(
        videos=(VideoFacts("a.mp4", "12" * 32, 640, 352),),
        reference=ReferenceModel("yolox", 2, "34" * 32, Scale(416, 416, "BGR", region=(0, 0.5, 1, 1))),
        labels=("person", "car"),
        own_labels=False,
        query=Query("car@door", ("car",), region, 0.3, 0.02),
    )
    table = made_table(differences={"global:10": np.zeros(40, np.float32)})
    return Learnt(facts, table, np.zeros((40, 5, 5, 3), np.uint8), {"global:10": make_detector("global:10")})


def test_what_was_learnt_is_read_again(tmp_path):
    learnt = made_learnt()
    learnt.save(tmp_path, ".npz")
    again = Learnt.load(tmp_path / "scores.npz")
    assert again.facts == learnt.facts
    assert np.array_equal(again.pictures, learnt.pictures)
    assert list(again.detectors) == ["global:10"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("training.json", None, "cannot be read"),
        ("training.json", "{", "is not what `cpuserve video train` wrote"),
        ("training.json", "[]", "is not what `cpuserve video train` wrote"),
        ("training.json", '{"format": 0}', "is of another version"),
        ("pictures.npy", None, "holds no pictures"),
        ("pictures.npy", "text", "holds no pictures"),
        ("difference-global-10.npz", None, "cannot be read"),
    ],
)
def test_a_directory_with_damaged_files_is_refused(tmp_path, name, content, reason):
    made_learnt().save(tmp_path, ".npz")
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=reason):
        Learnt.load(tmp_path / "scores.npz")


def test_files_of_different_trainings_are_refused(tmp_path):
    made_learnt().save(tmp_path, ".npz")
    np.save(tmp_path / "pictures.npy", np.zeros((3, 5, 5, 3), np.uint8))
    with pytest.raises(UsageError, match="of different trainings"):
        Learnt.load(tmp_path / "scores.npz")
    facts = json.loads((tmp_path / "training.json").read_text())
    assert facts["query"]["region"]["corners"] == [[0, 0], [1, 0], [0, 1]]


def test_the_directory_takes_its_place_at_the_end(tmp_path):
    target = tmp_path / "below" / "cars"
    with new_directory(target) as made:
        (made / "cascade.toml").write_text("first")
        assert not target.exists()
    assert (target / "cascade.toml").read_text() == "first"
    with new_directory(target) as made:
        (made / "cascade.toml").write_text("second")
        assert (target / "cascade.toml").read_text() == "first"
    assert (target / "cascade.toml").read_text() == "second"
    assert [path.name for path in target.parent.iterdir()] == ["cars"]
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [UsageError("no"), KeyboardInterrupt()])
def test_an_interrupted_training_leaves_nothing(tmp_path, error):
    target = tmp_path / "cars"

    def fail() -> None:
        with new_directory(target) as made:
            (made / "scores.npz").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_directories_with_other_files_are_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with (
        pytest.raises(UsageError, match=r"has other files in it and no cascade\.toml"),
        new_directory(tmp_path / "photos"),
    ):
        pass
    with (
        pytest.raises(UsageError, match="is a file: -o names a directory"),
        new_directory(tmp_path / "photos" / "cat.jpg"),
    ):
        pass
    assert (tmp_path / "photos" / "cat.jpg").exists()
