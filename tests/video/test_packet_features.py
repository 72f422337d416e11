"""The feature of packet sizes: it is learnt in either direction, and depends on the file alone."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.frame_scores import area_under_curve
from cpuserve.video.packet_features import PacketFeature, fit_packets, packet_sizes


def made_packets(louder: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, keyframes, and labels that change the sizes by a factor."""
    random = np.random.default_rng(2)
    labels = np.arange(800) % 100 >= 60
    key = np.arange(800) % 25 == 0
    sizes = random.lognormal(6, 0.3, 800) * np.where(labels, louder, 1) + 20_000 * key
    return sizes.astype(np.int64), key, labels


@pytest.mark.parametrize("louder", [1.5, 0.6])
def test_both_directions_are_learnt(louder):
    sizes, key, labels = made_packets(louder)
    feature = fit_packets(packet_sizes(sizes, key)[:400], labels[:400])
    assert area_under_curve(feature.probability(sizes, key)[400:], labels[400:]) > 0.85


def test_keyframes_do_not_look_like_motion():
    sizes, key, _ = made_packets(1.0)
    smoothed = packet_sizes(sizes, key)
    assert np.abs(smoothed[key, 0][1:] - smoothed[np.flatnonzero(key)[1:] - 1, 0]).max() < 1
    assert np.ptp(smoothed[100:, 3]) < 0.2  # the last column is of keyframes alone


@pytest.mark.parametrize("keys", ["all", "first"])
def test_files_of_keyframes_alone_and_of_one_have_sizes_too(keys):
    key = np.ones(10, bool) if keys == "all" else np.arange(10) == 0
    found = packet_sizes(np.full(10, 99), key)
    assert found == pytest.approx(np.full((10, 4), np.log(100)))


def test_a_feature_is_kept_in_a_file(tmp_path):
    sizes, key, labels = made_packets(2)
    feature = fit_packets(packet_sizes(sizes, key), labels)
    path = tmp_path / "packets.npz"
    feature.save(path)
    again = PacketFeature.load(path)
    assert np.array_equal(again.probability(sizes, key), feature.probability(sizes, key))
    path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="is no packet feature"):
        PacketFeature.load(path)
    with pytest.raises(UsageError, match="cannot be read"):
        PacketFeature.load(tmp_path / "none.npz")
