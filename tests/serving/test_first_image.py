"""What is left of animations and of several pages: the first image, as it would be alone."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from cpuserve.errors import TooManyPixels, UndecodableImage
from cpuserve.serving.decode import Decoder
from cpuserve.serving.first_image import first_image
from tests.attack_pictures import animated_png, animation, chunk, pages, png


def pixels(data):
    return Decoder("BGR", exact=True).decode(data).pixels


def opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_an_animated_png_is_decoded_as_if_it_were_still():
    kept = first_image(animated_png(), "PNG")
    assert bytes(kept) == png()
    assert (pixels(animated_png()) == (16, 32, 80)).all()
    assert (pixels(animation(".png")) == (200, 60, 20)).all()


@pytest.mark.parametrize("kind", [b"acTL", b"fcTL", b"fdAT", b"zTXt", b"iTXt", b"iCCP", b"prVt", b"eXIf"])
def test_a_png_keeps_only_what_makes_its_pixels(kind):
    long = chunk(kind, bytes(70_000))
    assert bytes(first_image(png(long, before=(long,)), "PNG")) == png()


def test_a_png_without_more_is_not_copied():
    data = png(before=(chunk(b"pHYs", bytes(9)),))
    assert first_image(data, "PNG").obj is data


def test_a_png_has_one_header():
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    for data in (png(before=(second,)), png(second)):
        with pytest.raises(UndecodableImage, match="only header"):
            Decoder().decode(data)


@pytest.mark.parametrize("extension", [".gif", ".webp"])
def test_only_the_first_frame_of_an_animation_reaches_the_decoder(extension):
    kind = {".gif": "GIF", ".webp": "WebP"}[extension]
    data, alone = animation(extension), animation(extension, frames=2)
    kept = bytes(first_image(data, kind))
    assert len(kept) < len(alone) < len(data)
    assert b"ANMF" not in kept
    assert np.array_equal(pixels(data), opencv(data))  # OpenCV gives the first of them too
    assert bytes(first_image(kept, kind)) == kept


def test_an_animated_webp_with_transparency_keeps_its_frame():
    made = cv2.Animation()
    frame = np.dstack([np.full((48, 64, 3), 90, np.uint8), np.full((48, 64), 120, np.uint8)])
    made.frames = [frame, frame // 2]
    made.durations = [100, 100]
    data = cv2.imencodeanimation(".webp", made)[1].tobytes()
    assert pixels(data).shape == (48, 64, 3)


def test_a_webp_that_begins_with_a_part_of_the_picture_is_refused():
    data = bytearray(animation(".webp"))
    at = data.index(b"ANMF") + 8
    data[at] = 3
    with pytest.raises(UndecodableImage, match="part of the picture"):
        pixels(data)


def test_an_animated_webp_without_frames_is_refused():
    data = animation(".webp")
    body = data[12 : data.index(b"ANMF")]
    with pytest.raises(UndecodableImage, match="no frame"):
        pixels(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)


@pytest.mark.parametrize("screen", [(0, 0), (10, 9), (64, 47)])
def test_a_gif_whose_first_image_is_larger_than_its_screen_is_as_large_as_the_image(screen):
    data = bytearray(animation(".gif"))
    data[6:10] = struct.pack("<HH", *screen)
    assert np.array_equal(pixels(data), opencv(animation(".gif")))
    at = data.index(b"\x2c\0\0\0\0")
    data[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(TooManyPixels, match="60000x60000"):
        pixels(data)


def test_a_gif_of_endless_small_blocks_is_refused():
    data = animation(".gif")
    at = data.index(b"\x2c\0\0\0\0")
    with pytest.raises(UndecodableImage, match="more than 262144 blocks"):
        pixels(data[:at] + b"\x21\xfe" + b"\x01x" * 262_145 + b"\0" + data[at:])
    with pytest.raises(UndecodableImage, match="no block"):
        pixels(data[:at] + b"\x77" + data[at:])


@pytest.mark.parametrize("cut", [15, 40, 60])
def test_a_gif_that_ends_inside_its_first_image_is_refused(cut):
    with pytest.raises(UndecodableImage):
        first_image(animation(".gif", frames=1)[:cut], "GIF")


def test_only_the_first_page_of_a_tiff_is_left():
    data = pages()
    kept = first_image(data, "TIFF")
    (directory,) = struct.unpack_from("<I", kept, 4)
    (count,) = struct.unpack_from("<H", kept, directory)
    assert struct.unpack_from("<I", kept, directory + 2 + 12 * count) == (0,)
    assert (pixels(data) == (200, 60, 20)).all()


def test_a_tiff_whose_directories_go_round_is_read_once():
    data = bytearray(pages(1))
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * count, directory)
    assert (pixels(data) == (200, 60, 20)).all()


def test_of_two_jpegs_in_one_file_the_first_is_read(data_dir):
    one = (data_dir / "images" / "hot_dog.jpg").read_bytes()
    two = cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    assert np.array_equal(pixels(one + two), opencv(one))
