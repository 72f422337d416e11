"""Changes along the structure of a picture: whole, repeatable, and behind right checksums."""

from __future__ import annotations

import zlib
from contextlib import suppress
from random import Random

import numpy as np
import pytest

from cpuserve.serving.decode import Decoder
from tests.fuzz import fuzz_image
from tests.fuzz.picture_mutators import _BUILD, mutate, parts_of

SEEDS = fuzz_image.seeds()


def change(data, most):
    made = bytearray(data)
    made[len(made) // 2] ^= 0x55
    return bytes(made[:most])


@pytest.mark.parametrize("data", SEEDS)
def test_a_picture_of_its_own_parts_is_the_same_picture(data):
    kind, parts = parts_of(data)
    assert parts
    decoder = Decoder("BGR", exact=True)
    assert np.array_equal(decoder.decode(_BUILD[kind](parts)).pixels, decoder.decode(data).pixels)


@pytest.mark.parametrize("data", SEEDS)
def test_the_same_seed_makes_the_same_change_and_most_seeds_another(data):
    made = [mutate(data, 20_000, seed, change) for seed in range(200)]
    assert made == [mutate(data, 20_000, seed, change) for seed in range(200)]
    assert len(set(made)) > 40
    assert all(len(each) <= 20_000 for each in made)


def test_changed_pngs_have_right_checksums_and_changed_pixels():
    changed = 0
    for seed in range(300):
        made = mutate(SEEDS[2], 20_000, seed, change)
        kind, parts = parts_of(made) or ("", [])
        if kind != "PNG" or _BUILD["PNG"](parts) != made:
            continue  # one in ten is changed without a look at its structure
        for name, held in parts:
            if name == b"IDAT" and held not in SEEDS[2]:
                with suppress(zlib.error):  # a number in it was changed as it is
                    changed += bool(zlib.decompressobj().decompress(held))
    assert changed > 10


def test_what_is_no_picture_is_changed_all_the_same():
    assert parts_of(b"hello") is None
    assert mutate(b"hello", 9, 1, change) == change(b"hello", 9)


def test_changes_are_refused_or_decoded():
    random = Random(0)  # noqa: S311  # repeatable
    for data in SEEDS:
        for seed in range(40):
            fuzz_image.one(mutate(data, 20_000, seed, lambda held, most: _noise(held, random)[:most]))


def _noise(held, random):
    made = bytearray(held)
    made[random.randrange(len(made))] = random.randrange(256)
    return bytes(made)
