"""Simulated cameras are made of the runs of a clip; promises are kept, and the docs say how often."""

import json

import numpy as np
import pytest

from benchmarks.video_promises import _Camera
from tests.benchmarks.running import run
from tests.conftest import ROOT
from tests.video.made_scores import made_table


@pytest.fixture(scope="module")
def camera():
    return _Camera(made_table(3000, noise=0.1))


def test_time_is_made_of_whole_runs_by_turns(camera):
    generator = np.random.default_rng(1)
    weights = camera.weights(generator)
    assert [share.sum() for share in weights.values()] == pytest.approx([1, 1])
    time = camera.time(5000, weights, generator)
    assert len(time) == 5000
    assert time.number.tolist() == list(range(5000))
    lengths = np.diff(np.flatnonzero(np.diff(time.label.astype(int))))
    known = made_table(3000, noise=0.1).label
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], known.astype(int), [2]]))))
    assert set(lengths) <= set(runs)
    assert np.bincount(time.part).tolist() == [0, 1500, 3500]


def test_runs_are_shifted_as_far_as_they_differ(camera):
    generator = np.random.default_rng(2)
    time = camera.time(30_000, camera.weights(generator), generator)
    scores = time.specialised["small"]
    assert ((scores > 0) & (scores < 1)).all()
    assert scores[time.label].mean() > 0.6
    assert scores[~time.label].mean() < 0.4
    assert len(np.unique(scores)) > 20_000  # the scores of 3000 frames alone would be 3000
    infinite = ~np.isfinite(time.differences["global:10"])
    assert not infinite.any()


def test_both_rules_are_judged_on_every_split(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made_table(3000, noise=0.1, seed=ord(name)).save(tmp_path / name / "scores.npz")
    words = ["--scores", *(str(tmp_path / name / "scores.npz") for name in "ab"), "--splits", "3"]
    words += ["--frames", "3000", "--true-frames", "3000", "--budget", "0.3", "--confidence", "0.6"]
    found = run("video_promises", tmp_path / "out.json", *words)
    assert [row["clip"] for row in found["splits"]] == ["a", "b", "a"]
    assert found["rules"]["point_estimate"]["promised"] == 3
    for rule, one in found["rules"].items():
        assert one["broken"] == sum(row[rule]["broken"] for row in found["splits"])
        for row in found["splits"]:
            judged = row[rule]
            assert judged["broken"] == (judged["promised"] and max(judged["fn"], judged["fp"]) > 0.3)


def result():
    return json.loads((ROOT / "docs" / "results" / "video-promises.json").read_text())


def test_promises_were_kept_as_often_as_they_say_and_point_estimates_were_not():
    rules = result()["rules"]
    promise, point = rules["promise"], rules["point_estimate"]
    assert promise["splits"] == 200
    assert promise["promised"] >= 50
    assert promise["broken_share_of_promised"] <= 1 - result()["confidence"]
    assert point["broken_share"] > 0.2


def test_the_docs_show_the_figures_of_the_file():
    page = (ROOT / "docs" / "video-choice.md").read_text()
    for rule, words in (("promise", "proven"), ("point_estimate", "point estimate")):
        one = result()["rules"][rule]
        figures = f"{one['splits']} | {one['promised']} | {one['broken']} | {one['median_speed_up']:.1f} |"
        assert f"| {words} | {figures}" in page
