"""Answers drawn: what is where in the PNG."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from cpuserve.errors import TooManyPixels
from cpuserve.serving.decode import Decoder
from cpuserve.serving.postprocess.segmentation import NOT_SEEN
from cpuserve.serving.render import colours, mask_png, overlay_png, upright

GREY = 128


def drawn(answer, mask=None, size=(300, 200)):
    pixels = np.full((size[1], size[0], 3), GREY, np.uint8)
    png = overlay_png(pixels, answer, mask)
    found = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found.shape == (size[1], size[0], 3)
    return found[:, :, ::-1].astype(int)


def colour(index):
    return colours()[index + 1].tolist()


def test_the_colours_are_those_of_pascal_voc():
    assert colours()[[0, 1, 2, 3, 15, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [192, 128, 128],
        [224, 224, 192],
    ]
    assert len({tuple(row) for row in colours().tolist()}) == 256


def test_boxes_are_drawn_with_names_and_the_best_on_top():
    box = {"class_id": 1, "label": "hund, größer", "probability": 0.5, "box": [50, 60, 250, 180]}
    best = {"class_id": 2, "label": "b", "probability": 0.9, "box": [250, 100, 290, 190]}
    found = drawn({"detections": [best, box]})
    assert found[120, 50].tolist() == found[179, 100].tolist() == colour(1)
    assert found[150, 289].tolist() == colour(2)
    assert found[120, 150].tolist() == [GREY] * 3  # inside
    assert (found[50:60, 51:120] == colour(1)).all(axis=2).mean() > 0.3  # the ground of the name, above
    assert found[130, 250].tolist() == colour(2)  # the edges cross here


def test_points_and_classes_are_drawn():
    found = drawn({"keypoints": [{"class_id": 0, "label": "eye", "probability": 1.0, "point": [40.4, 50.0]}]})
    assert found[50, 40].tolist() == colour(0)
    assert (found != GREY).any(axis=2).sum() < 100
    words = drawn({"predictions": [{"class_id": 7, "label": "seven", "probability": 1.0}]})
    assert words[2, 1].tolist() == colour(7)
    assert (words[40:] == GREY).all()
    unsure = {"class_id": 8, "label": "eight", "probability": 0.004}
    more = drawn({"predictions": [{"class_id": 7, "label": "seven", "probability": 0.996}, unsure]})
    assert (more[12:] == words[12:]).all()  # it would be written as 0.00


def test_a_mask_tints_all_but_background_and_what_was_not_seen():
    mask = np.zeros((200, 300), np.uint8)
    mask[:, 100:200], mask[:, 200:] = 3, NOT_SEEN
    found = drawn({"classes": [{"class_id": 3, "label": "cat", "area": 0.3}]}, mask)
    assert found[1, 1].tolist() == colours()[3].tolist()  # the name stands on the colour of the mask
    assert (found[40:, :100] == GREY).all()
    assert (found[:, 200:] == GREY).all()
    assert (found[:, 100:200] == (np.array([GREY] * 3) + colours()[3]) // 2).all()


def test_a_mask_is_a_png_with_a_palette():
    mask = np.random.default_rng(3).integers(0, 256, (37, 53), np.uint8)
    picture = Image.open(io.BytesIO(mask_png(mask)))
    assert (picture.mode, picture.size) == ("P", (53, 37))
    assert np.array_equal(np.asarray(picture), mask)
    assert np.array_equal(np.asarray(picture.convert("RGB")), colours()[mask])


def test_pictures_are_drawn_on_upright_and_whole(data_dir):
    for file in sorted((data_dir / "images" / "formats").glob("*exif*")):
        pixels = upright(file.read_bytes(), Decoder("RGB", exact=False))
        wanted = cv2.imread(str(file))
        assert pixels.shape == wanted.shape
        assert np.abs(pixels.astype(int) - wanted).mean() < 1
    with pytest.raises(TooManyPixels):
        upright(file.read_bytes(), Decoder(max_pixels=100))
