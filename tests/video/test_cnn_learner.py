"""Networks are trained by numpy, or by PyTorch where it is there: the same steps from the same weights."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from cpuserve.errors import MissingExtra
from cpuserve.video import cnn_learner
from cpuserve.video.cnn_learner import check_trainer, make_learner
from cpuserve.video.cnn_process import train_apart
from cpuserve.video.numpy_cnn import NumpyCnn
from cpuserve.video.scale import Scale
from cpuserve.video.specialised_cnn import SpecialisedCnn
from cpuserve.video.specialised_training import write_ir
from cpuserve.video.train import TrainingOptions
from tests.video.test_specialised_training import TINY, made_clip

MISSING = "--trainer torch needs PyTorch .*pip install 'cpuserve\\[torch\\]'"
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


def batches(count: int):
    """Batches of pixels, labels, shares and dropout."""
    random = np.random.default_rng(5)
    for _ in range(count):
        labels = random.random(6) < 0.5
        share = random.uniform(0.5, 2, 6).astype(np.float32)
        keep = (random.random((6, 8)) < 0.5).astype(np.float32) * 2
        yield random.uniform(0, 255, (6, 11, 9, 3)).astype(np.float32), labels, share, keep


def made_network():
    return NumpyCnn.made(np.full((11, 9, 3), 0.4, np.float32), 4, 8, seed=0)


def test_what_a_learner_gave_is_not_changed_by_later_steps():
    learner = make_learner("numpy", made_network())
    first, second, third = batches(3)
    learner.step(*first)
    network = learner.network()
    before = {name: value.copy() for name, value in network.weights.items()}
    learner.step(*second)
    learner.step(*third)
    assert all(np.array_equal(before[name], network.weights[name]) for name in before)
    assert not np.array_equal(before["conv0"], learner.network().weights["conv0"])


def test_torch_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(cnn_learner, "find_spec", lambda _name: None)
    check_trainer("numpy")
    with pytest.raises(MissingExtra, match=MISSING):
        check_trainer("torch")
    with pytest.raises(MissingExtra, match=MISSING):
        TrainingOptions(trainer="torch")
    with pytest.raises(MissingExtra, match=MISSING):
        make_learner("torch", made_network())


@pytest.mark.frameworks
@needs_torch
def test_torch_takes_the_steps_of_numpy():
    learners = [make_learner(name, made_network()) for name in ("numpy", "torch")]
    for batch in batches(20):
        for learner in learners:
            learner.step(*batch)
    ours, theirs = (learner.network() for learner in learners)
    start = made_network().weights
    assert ours.weights.keys() == theirs.weights.keys()
    for name, value in ours.weights.items():
        moved, apart = (np.linalg.norm(value - other[name]) for other in (start, theirs.weights))
        assert moved > 1e-3
        assert apart < 0.02 * moved, name
    assert np.array_equal(ours.mean, theirs.mean)


@pytest.mark.frameworks
@needs_torch
def test_torch_learns_an_object_and_its_ir_answers_the_same(tmp_path):
    pixels, labels = made_clip(400)
    trained = train_apart(pixels[:320], labels[:320], TINY, trainer="torch")
    found = trained.network.probability(pixels[320:])
    assert found[labels[320:]].min() > found[~labels[320:]].max()
    path = tmp_path / "tiny.xml"
    write_ir(trained.network, path)
    network = SpecialisedCnn(path)
    assert network.scale == Scale(50, 50, "RGB", "area")
    assert np.abs(network.predict(pixels) - trained.network.probability(pixels)).max() < 1e-3
