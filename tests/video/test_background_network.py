"""The network of differences from an empty picture learns from few frames, and forgives exposure."""

import numpy as np
import pytest

from cpuserve.video.background_network import train_background
from cpuserve.video.region import Region
from cpuserve.video.specialised_cnn import CNN_SCALE, SpecialisedCnn
from tests.video.test_specialised_training import made_clip

LOWER = Region.rectangle("0,0.6,1,1", [0, 0.6, 1, 1])


@pytest.fixture
def clip():
    pixels, labels = made_clip(160)
    return pixels, labels, np.median(pixels[~labels], axis=0).astype(np.uint8)


def test_it_finds_the_object_in_frames_it_never_saw(tmp_path, clip):
    pixels, labels, empty = clip
    train_background(pixels[:80], labels[:80], empty, None, tmp_path / "background.xml")
    network = SpecialisedCnn(tmp_path / "background.xml")
    assert network.scale == CNN_SCALE
    found = network.predict(pixels[80:])
    assert found[labels[80:]].min() > 0.5 > found[~labels[80:]].max()
    np.testing.assert_allclose(network.predict(pixels[90:91]), found[10:11], atol=1e-6)


def test_a_picture_that_is_brighter_throughout_is_the_same(tmp_path, clip):
    _, labels, empty = clip
    scene = np.repeat(empty[None], len(labels), axis=0)
    scene += np.random.default_rng(4).integers(0, 4, scene.shape, np.uint8)
    scene[labels, 10:20, 15:25] += 15
    exposure = np.where(np.arange(len(labels)) % 3, 1.0, 1.5)[:, None, None, None]  # of the object, too
    scene = (scene * exposure).astype(np.uint8)
    train_background(scene[:80], labels[:80], empty, None, tmp_path / "background.xml")
    found = SpecialisedCnn(tmp_path / "background.xml").predict(scene[80:])
    assert found[labels[80:]].min() > 0.5 > found[~labels[80:]].max()


def test_what_happens_far_from_the_region_does_not_count(tmp_path, clip):
    pixels, _, empty = clip
    random = np.random.default_rng(3)
    labels = random.random(len(pixels)) < 0.5
    scene = np.repeat(empty[None], len(pixels), axis=0)
    scene[labels, 35:45, 20:30] = 250
    scene[::3, :15] = 0  # and something large above
    train_background(scene[:80], labels[:80], empty, LOWER, tmp_path / "background.xml")
    found = SpecialisedCnn(tmp_path / "background.xml").predict(scene[80:])
    assert found[labels[80:]].min() > 0.9
    assert found[~labels[80:]].max() < 0.1


@pytest.mark.parametrize("corners", [[0, 0, 0.05, 0.05], [0.97, 0.97, 1, 1], [0.41, 0, 0.43, 1]])
def test_regions_of_any_size_and_pictures_without_light_are_taken(tmp_path, corners):
    dark = np.zeros((60, 50, 50, 3), np.uint8)
    labels = np.arange(60) % 2 == 0
    dark[labels] += 60
    region = Region.rectangle("some", corners)
    train_background(dark, labels, np.zeros((50, 50, 3), np.uint8), region, tmp_path / "background.xml")
    found = SpecialisedCnn(tmp_path / "background.xml").predict(dark)
    assert found[labels].min() > found[~labels].max()
