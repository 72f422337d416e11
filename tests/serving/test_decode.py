"""Decoding: the pixels OpenCV gives, from whatever is sent, and refusals for what cannot be decoded."""

import threading
from contextlib import suppress

import cv2
import numpy as np
import pytest
import simplejpeg

from cpuserve.errors import TooManyPixels, TooMuchDecoding, UndecodableImage, UnsupportedFormat
from cpuserve.serving.decode import Decoder, scaled_size
from cpuserve.serving.preprocess import Resizer
from tests.attack_pictures import jpeg_of_scans, png, sequential_jpeg_of_scans


def test_exact_decoding_is_opencvs_to_the_bit(data_dir):
    for file in sorted((data_dir / "images" / "formats").iterdir()):
        pixels, orientation, *_ = Decoder("BGR", exact=True).decode(file.read_bytes(), 224, 224)
        stored = cv2.imread(str(file), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert np.array_equal(pixels, stored), file.name
        assert orientation == (int(file.stem[-1]) if "exif" in file.stem else 1)


def test_colour_order(data_dir):
    data = (data_dir / "images" / "hot_dog.jpg").read_bytes()
    rgb, *_ = Decoder("RGB", exact=True).decode(data)
    bgr, *_ = Decoder("BGR", exact=True).decode(data)
    grey, *_ = Decoder("GRAY", exact=True).decode(data)
    assert np.array_equal(rgb, bgr[:, :, ::-1])
    assert grey.shape == rgb.shape[:2]
    png, *_ = Decoder("GRAY").decode((data_dir / "images" / "orange.png").read_bytes())
    assert png.ndim == 2


def test_fast_decoding_shrinks_but_never_below_the_target(data_dir):
    for file in sorted((data_dir / "images").glob("*.jp*g")):
        data = file.read_bytes()
        full, *_ = Decoder(exact=True).decode(data)
        small, *_ = Decoder().decode(data, 224, 224)
        assert small.shape[0] >= min(224, full.shape[0])
        assert small.shape[1] >= min(224, full.shape[1])
    assert Decoder().decode((data_dir / "images" / "mug_8mp.jpg").read_bytes(), 224, 224)[0].shape[0] < 400


def test_fast_decoding_of_a_turned_picture_keeps_the_upright_size(data_dir):
    data = (data_dir / "images" / "formats" / "grace_hopper_exif6.jpg").read_bytes()  # 600x512 as stored
    small, orientation, *_ = Decoder().decode(data, width=450, height=100)
    assert orientation == 6
    assert small.shape[0] >= 450


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("bomb_30000x30000.png", TooManyPixels, "900000000.*32000000.*max_pixels"),
        ("empty.jpg", UndecodableImage, "empty"),
        ("header_only.png", UndecodableImage, "header"),
        ("text.jpg", UnsupportedFormat, "JPEG, PNG"),
        ("truncated.jpg", UndecodableImage, "truncated"),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_bad_files_are_refused_by_name(data_dir, name, error, words, exact):
    with pytest.raises(error, match=words):
        Decoder(exact=exact).decode((data_dir / "images" / "bad" / name).read_bytes(), 224, 224)


def test_one_pixel_is_a_picture(data_dir):
    pixels, *_ = Decoder().decode((data_dir / "images" / "bad" / "one_pixel.png").read_bytes(), 224, 224)
    assert pixels.shape == (1, 1, 3)


def test_half_a_file_of_any_format_is_refused(data_dir):
    for file in sorted((data_dir / "images" / "formats").iterdir()):
        data = file.read_bytes()
        with pytest.raises(UndecodableImage):
            Decoder().decode(data[: len(data) // 2], 224, 224)


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(data_dir):
    data = (data_dir / "images" / "hot_dog.jpg").read_bytes()
    assert np.array_equal(Decoder().decode(data + b"tail" * 9, 64, 64)[0], Decoder().decode(data, 64, 64)[0])


def test_damage_in_the_middle_of_a_jpeg_is_refused(data_dir):
    data = bytearray((data_dir / "images" / "hot_dog.jpg").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff\x06" * 20
    with pytest.raises(UndecodableImage):
        Decoder().decode(data, 224, 224)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(data_dir, kind):
    for name in ("hot_dog.jpg", "bird.bmp"):
        data = (data_dir / "images" / name).read_bytes()
        assert Decoder().decode(kind(data), 9, 9)[0].size


TURNS = {
    1: lambda p: p,
    2: lambda p: cv2.flip(p, 1),
    3: lambda p: cv2.rotate(p, cv2.ROTATE_180),
    4: lambda p: cv2.flip(p, 0),
    5: cv2.transpose,
    6: lambda p: cv2.rotate(p, cv2.ROTATE_90_CLOCKWISE),
    7: lambda p: cv2.flip(cv2.transpose(p), -1),
    8: lambda p: cv2.rotate(p, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize_type", ["standard", "crop", "fit_to_window", "fit_to_window_letterbox"])
def test_turning_after_the_resize_is_turning_before_it(orientation, resize_type):
    y, x = np.mgrid[:61, :97]
    stored = np.stack([x * 2, y * 4, x + y], axis=-1).astype(
        np.uint8
    )  # an odd pixel more or less shows little
    resizer = Resizer(48, 32, resize_type, pad_value=114)
    late = np.zeros((32, 48, 3), np.uint8)
    resizer.into(late, stored, orientation)
    early = np.zeros((32, 48, 3), np.uint8)
    resizer.into(early, np.ascontiguousarray(TURNS[orientation](stored)))
    assert np.abs(late.astype(int) - early).max() <= 6


def test_resize_types():
    wide = np.full((50, 100, 3), 200, np.uint8)
    wide[:, 25:75] = 50
    row = np.zeros((40, 40, 3), np.uint8)
    Resizer(40, 40, "crop").into(row, wide)
    assert (row == 50).all()
    Resizer(40, 40, "fit_to_window", pad_value=7).into(row, wide)
    assert (row[20:] == 7).all()
    assert (row[:20] >= 50).all()
    Resizer(40, 40, "fit_to_window_letterbox", pad_value=7).into(row, wide)
    assert (row[:10] == 7).all()
    assert (row[30:] == 7).all()
    assert (row[10:30] >= 50).all()


def test_a_grey_model_gets_one_channel():
    row = np.zeros((8, 8, 1), np.uint8)
    Resizer(8, 8).into(row, np.full((20, 30), 99, np.uint8))
    assert (row == 99).all()
    Resizer(8, 8).into(row, np.full((20, 30), 77, np.uint8), 6)
    assert (row == 77).all()


@pytest.mark.parametrize("made", [jpeg_of_scans, sequential_jpeg_of_scans])
@pytest.mark.parametrize(("scans", "width", "height"), [(1000, 1000, 1000), (200_000, 8, 8)])
def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(made, scans, width, height):
    data = made(scans // 100, width, height)
    assert Decoder(max_scan_pixels=scans // 100 * max(4096, width * height)).decode(data).pixels.size
    many = data[: data.index(b"\xff\xda")] + data[data.index(b"\xff\xda") : -2] * 100 + b"\xff\xd9"
    with pytest.raises(TooMuchDecoding, match=rf"has {scans} scans.*640000000 .setting max_jpeg_scan_pixels"):
        Decoder().decode(many)


def test_a_picture_of_one_scan_has_no_limit_but_its_pixels(data_dir):
    data = (data_dir / "images" / "hot_dog.jpg").read_bytes()
    assert Decoder(max_scan_pixels=1).decode(data).pixels.size


def test_only_a_jpeg_that_its_decoder_complains_of_is_decoded_again_and_once(data_dir, monkeypatch):
    calls = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *args, **words: calls.append(args) or decode(*args, **words)
    )
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV was asked for a JPEG"))
    data = (data_dir / "images" / "hot_dog.jpg").read_bytes()
    damaged = data[:-4000] + b"\xff\xd7" * 2000
    for each, times in (
        (data, 1),
        (data + b"tail", 1),
        (jpeg_of_scans(20), 1),
        (data[:-40], 2),
        (damaged, 1),
    ):
        calls.clear()
        with suppress(UndecodableImage):
            Decoder().decode(each, 20, 20)
        assert len(calls) == times


def test_the_size_of_a_scaled_jpeg_is_known_before_it_is_decoded():
    for width, height in ((1, 1), (5, 196), (64, 48), (97, 61), (300, 3)):
        data = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
        for across in (0, 1, 7, 8, 9, 31, 60, 97, 400):
            for down in (0, 1, 5, 24, 25, 61, 200):
                rows, columns, _, _ = simplejpeg.decode_jpeg_header(
                    data, min_width=across, min_height=down, min_factor=1
                )
                assert scaled_size(width, height, across, down) == (rows, columns)


@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
def test_a_harmless_warning_changes_no_pixel(data_dir, order):
    data = (data_dir / "images" / "formats" / "grace_hopper_exif6.jpg").read_bytes()
    assert data.endswith(b"\xff\xd9")
    for exact in (True, False):
        alone = Decoder(order, exact).decode(data, 100, 90)
        warned = Decoder(order, exact).decode(data[:-2] + bytes(9) + data[-2:], 100, 90)
        assert np.array_equal(alone.pixels, warned.pixels)
        assert alone[1:] == warned[1:]


@pytest.mark.parametrize("data", [jpeg_of_scans(20, 2000, 2000), png(width=3000, height=3000)])
def test_no_decoder_keeps_the_interpreter(data):
    """Another thread runs while a decoder works."""
    done = threading.Event()
    thread = threading.Thread(target=lambda: (Decoder().decode(data), done.set()))
    thread.start()
    turns = 0
    while not done.wait(0.0005):
        turns += 1
    thread.join()
    assert turns > 2
