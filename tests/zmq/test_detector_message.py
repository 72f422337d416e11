"""Whatever a message holds, it is read or refused, and nothing is taken that was not sent."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from cpuserve.errors import RequestError
from cpuserve.zmq.detector_message import ModelQuestion, ModelUpload, PictureMessage, object_rows, read

SEEDS = range(40)
WORDS: tuple[Any, ...] = (
    *("shape", "dtype", "model_request", "model_data", "model_name", "uint8", "float32", "int64", "object"),
    *(True, False, None, 0, 1, 3, -1, 1 << 63, 1e308, "", "ä" * 300, [], {}, [1, 2, 2, 3], [2, 2, 3], [12]),
)


def anything(rng, depth=0):
    """A value as JSON may hold it."""
    if depth < 3 and rng.random() < 0.3:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(5))]
    if depth < 3 and rng.random() < 0.2:
        return {str(rng.choice(WORDS)): anything(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice(WORDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_anything_is_read_or_refused(seed):
    rng = random.Random(seed)  # noqa: S311  # no secret
    for _ in range(100):
        keys = rng.sample(["shape", "dtype", "model_request", "model_data", "model_name"], rng.randrange(6))
        header = json.dumps({key: anything(rng) for key in keys}).encode()
        if rng.random() < 0.3:
            place = rng.randrange(len(header))
            header = header[:place] + rng.randbytes(2) + header[place:]
        parts = [header, rng.randbytes(rng.choice([0, 1, 12, 48]))][: rng.choice([1, 2, 2, 2])]
        try:
            message = read(parts)
        except RequestError as error:
            assert len(str(error)) < 300
            continue
        if isinstance(message, PictureMessage):
            assert message.pixels.dtype == np.uint8
            assert message.pixels.ndim == 3
            assert message.pixels.shape[2] == 3
        else:
            assert isinstance(message, (ModelQuestion, ModelUpload))
            assert len(message.name) <= 200


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0, 2.0, 254.6, 255.0])
def test_floats_are_shares_of_one_or_bytes(value):
    sent = np.full((1, 2, 2, 3), value, np.float32)
    head = {"shape": [1, 2, 2, 3], "dtype": "float32"}
    message = read([json.dumps(head).encode(), sent.tobytes()])
    wanted = round(value * 255) if value <= 1 else round(value)
    assert isinstance(message, PictureMessage)
    assert (message.pixels == wanted).all()


def test_rows_are_shares_of_the_picture():
    one = {"class_id": 3, "probability": 0.5, "box": [10, 20, 30, 80], "label": "x"}
    rows = object_rows([one], 40, 80)
    assert rows.dtype == np.float32
    assert rows[0].tolist() == [3, 0.5, 0.25, 0.25, 1, 0.75]
    assert not rows[1:].any()
    assert object_rows([one] * 30, 40, 80)[:, 1].tolist() == [0.5] * 20
