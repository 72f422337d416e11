"""Specialised networks: the slopes are right, training finds the object, and the IR answers the same."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.video import cnn_process
from cpuserve.video.cnn_process import train_apart
from cpuserve.video.numpy_cnn import NumpyCnn
from cpuserve.video.scale import Scale
from cpuserve.video.specialised_cnn import SpecialisedCnn
from cpuserve.video.specialised_training import CnnSize, check_both_classes, train_cnn, write_ir

TINY = CnnSize("tiny", 4, 8)


def made_clip(frames: int, side: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and for 15 of every 40 frames a bright square that wanders through it."""
    random = np.random.default_rng(1)
    pixels = random.integers(60, 100, (frames, side, side, 3), np.uint8)
    labels = np.arange(frames) % 40 >= 25
    for row in np.flatnonzero(labels):
        top, left = random.integers(5, side - 15, 2)
        pixels[row, top : top + 10, left : left + 10] += 60
    return pixels, labels


def test_slopes_are_those_of_small_steps():
    random = np.random.default_rng(0)
    network = NumpyCnn.made(np.full((9, 11, 3), 0.4, np.float32), 2, 4, seed=0)
    pixels = random.uniform(0, 255, (5, 9, 11, 3)).astype(np.float32)
    labels, share = random.random(5) < 0.5, random.random(5).astype(np.float32)
    keep = np.array([[2, 0, 2, 2]], np.float32).repeat(5, axis=0)
    network.weights = {name: value.astype(np.float64) for name, value in network.weights.items()}
    _, slopes = network.gradients(pixels, labels, share, keep)
    for name, weight in network.weights.items():
        places = random.integers(0, weight.size, 6)
        for place in places:
            ends = []
            for step in (1e-4, -1e-4):
                weight.flat[place] += step
                ends.append(network.gradients(pixels, labels, share, keep)[0])
                weight.flat[place] -= step
            slope = (ends[0] - ends[1]) / 2e-4
            assert slopes[name].flat[place] == pytest.approx(slope, rel=0.05, abs=2e-4), name


@pytest.mark.numeric
def test_a_network_learns_an_object_and_its_ir_answers_the_same(tmp_path):
    pixels, labels = made_clip(400)
    steps: list[tuple[int, int]] = []
    trained = train_apart(pixels[:320], labels[:320], TINY, report=lambda *done: steps.append(done))
    found = trained.network.probability(pixels[320:])
    assert found[labels[320:]].min() > found[~labels[320:]].max()  # on frames it never saw
    assert [epoch for epoch, _ in steps] == list(range(1, trained.epochs + 1))
    path = tmp_path / "tiny.xml"
    write_ir(trained.network, path, Scale(50, 50, "RGB", "area"))
    network = SpecialisedCnn(path)
    assert network.name == "tiny"
    assert network.scale == Scale(50, 50, "RGB", "area")
    for rows in (slice(320, 321), slice(0, 400)):
        assert np.abs(network.predict(pixels[rows]) - trained.network.probability(pixels[rows])).max() < 1e-3


def test_the_same_seed_gives_the_same_network():
    pixels, labels = made_clip(120)
    first, again = (train_apart(pixels, labels, TINY, seed=7).network.weights for _ in range(2))
    other = train_apart(pixels, labels, TINY, seed=8).network.weights
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["dense"], other["dense"])


def test_one_class_alone_is_refused_with_the_count():
    pixels, _ = made_clip(60)
    with pytest.raises(UsageError, match="0 of 60 labelled training frames are without it"):
        train_cnn(pixels, np.ones(60, bool), TINY)
    with pytest.raises(UsageError, match="3 of 60 labelled training frames are with the object"):
        train_apart(pixels, np.arange(60) < 3, TINY)


@pytest.mark.parametrize(
    ("count", "said"),
    [(4, "label 8 more minutes of such video"), (0, "none was seen with the object: label a time")],
)
def test_too_few_frames_of_a_class_are_refused_with_the_minutes_that_are_missing(count, said):
    with pytest.raises(UsageError, match=f"{count} of 60 labelled training frames are with the .*{said}"):
        check_both_classes(np.arange(60) < count, 2.0)


def test_a_process_that_ends_without_a_network_is_told(monkeypatch):
    monkeypatch.setattr(cnn_process, "die_with_parent", lambda *_: ["false"])
    pixels, labels = made_clip(60)
    with pytest.raises(CpuserveError, match="training the network tiny ended"):
        train_apart(pixels, labels, TINY)


def test_a_class_that_is_in_one_part_of_the_clip_alone_is_learnt_too():
    pixels, labels = made_clip(200)
    order = np.argsort(labels, kind="stable")  # all with the object are at the end
    pixels, labels = pixels[order], labels[order]
    found = train_apart(pixels, labels, TINY).network.probability(pixels)
    assert found[labels].mean() > 0.8
    assert found[~labels].mean() < 0.2
