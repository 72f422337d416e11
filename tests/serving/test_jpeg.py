"""JPEG as programs write it: read as Pillow reads it, or refused for the reason that is true."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.errors import UndecodableImage, UnsupportedFormat
from cpuserve.serving.decode import Decoder
from cpuserve.serving.decoder_guard import DecoderGuard
from tests.made_pictures import changed, flat_jpeg, jpeg, pillow, segment, segments, with_segments

PARTS, DATA = segments(jpeg())
RESTARTS = jpeg(restart_marker_blocks=5)


def profile(number: int, of: int) -> bytes:
    return segment(0xE2, b"ICC_PROFILE\0" + bytes([number, of]) + b"x" * 64)


def stray(before: int, what: bytes) -> bytes:
    parts = [what + part if part[1] == before else part for part in PARTS]
    return b"\xff\xd8" + b"".join(parts) + DATA


def without(marker: int) -> bytes:
    return b"\xff\xd8" + b"".join(part for part in PARTS if part[1] != marker) + DATA


READABLE = {
    "profile twice": with_segments(profile(1, 1), profile(1, 1)),
    "profile 0 of 0": with_segments(profile(0, 0)),
    "profile 2 of 1": with_segments(profile(2, 1)),
    "first part of a profile missing": with_segments(profile(2, 3), profile(3, 3)),
    "last part of a profile missing": with_segments(profile(1, 3), profile(2, 3)),
    "profile whose parts disagree": with_segments(profile(1, 2), profile(2, 3)),
    "profile in another order": with_segments(profile(2, 2), profile(1, 2)),
    "Photoshop's block with a false size": with_segments(
        segment(0xED, b"Photoshop 3.0\08BIM\x04\x04\0\0\xff\xff\xff\xff")
    ),
    "segment of length 0": with_segments(b"\xff\xed\0\0"),
    "segment of length 1": with_segments(b"\xff\xed\0\1"),
    "stray bytes between segments": with_segments(b"\0\0\0"),
    "many stray bytes": with_segments(b"abc" * 5000),
    "stray bytes before the frame": stray(0xC0, b"\x01\x02"),
    "stray bytes before the tables": stray(0xC4, b"\x01\x02"),
    "stray bytes before the scan": stray(0xDA, b"\x01\x02"),
    "stuffed byte between segments": with_segments(b"\xff\0"),
    "fill bytes": b"\xff\xd8" + b"".join(b"\xff" * 5 + part for part in PARTS) + DATA,
    "no JFIF": without(0xE0),
    "JFIF twice": with_segments(PARTS[0]),
    "JFIF 2": changed(0xE0, {9: 2}),
    "Adobe's unknown transform": with_segments(segment(0xEE, b"Adobe\0\x64\0\0\0\0\x07"), data=without(0xE0)),
    "Adobe's transform of four components": with_segments(segment(0xEE, b"Adobe\0\x64\0\0\0\0\2")),
    "bytes behind the end": jpeg() + b"rubbish" * 99,
    "no Huffman tables": without(0xC4),
    "1x4, stray bytes": with_segments(b"\0\0", data=flat_jpeg([(1, 4), (1, 1), (1, 1)], [40, -60, 90])),
    "progressive": jpeg(progressive=True),
    "progressive, profile twice": with_segments(profile(1, 1), profile(1, 1), data=jpeg(progressive=True)),
    "restarts": RESTARTS,
    "grey": jpeg("L"),
    "CMYK": jpeg("CMYK"),
    "CMYK, profile twice": with_segments(profile(1, 1), profile(1, 1), data=jpeg("CMYK")),
    "RGB": jpeg(keep_rgb=True),
    **{
        f"{across}x{down} {kind}": flat_jpeg([(across, down), *others], values)
        for across, down in ((1, 2), (2, 1), (4, 1), (1, 4), (3, 1), (1, 3), (4, 2), (2, 4), (3, 2), (2, 3))
        for kind, others, values in (("YCbCr", [(1, 1)] * 2, [40, -60, 90]), ("grey", [], [40]))
        if across * down <= 8
    },
    **{
        f"sampling factors {factors}": flat_jpeg(factors, [40, -60, 90, 30][: len(factors)])
        for factors in (
            [(2, 2), (2, 1), (1, 1)],
            [(2, 2), (1, 2), (2, 1)],
            [(1, 1), (2, 2), (2, 2)],
            [(4, 1), (2, 1), (1, 1)],
            [(2, 1), (1, 2), (1, 2)],
            [(2, 1)] * 3,
            [(1, 2)] * 3,
            [(2, 1), (1, 1), (1, 1), (2, 1)],
            [(3, 1), (1, 1), (1, 1), (3, 1)],
        )
    },
}


@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(4)])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_lost_end_takes_no_pixels_with_it(tail, progressive):
    data = jpeg(progressive=progressive)
    found = Decoder(exact=True).decode(data[:-2] + tail)
    assert np.array_equal(found.pixels, Decoder(exact=True).decode(data).pixels)


@pytest.fixture(scope="module")
def guard():
    guard = DecoderGuard(frozenset(), 20.0)
    yield guard
    guard.close()


@pytest.mark.parametrize("name", READABLE)
def test_what_libjpeg_reads_is_read_as_pillow_reads_it(name):
    want = pillow(READABLE[name]).astype(int)
    for order, expected in (("RGB", want), ("BGR", want[:, :, ::-1])):
        found = Decoder(order, exact=True).decode(READABLE[name])
        assert found.pixels.shape == want.shape
        assert np.abs(found.pixels - expected).max() <= 12
    assert Decoder("GRAY").decode(READABLE[name]).pixels.shape == want.shape[:2]
    assert Decoder().decode(READABLE[name], 8, 8).pixels.shape[0] >= 8


def test_sampling_factors_that_turbojpeg_does_not_know_are_decoded_in_a_process_apart(guard):
    data = READABLE["3x1 YCbCr"]
    apart, here = Decoder(guard=guard).decode(data), Decoder().decode(data)
    assert np.array_equal(apart.pixels, here.pixels)
    assert guard.processes()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
def test_bytes_behind_the_data_change_no_pixel(mode, order):
    data = jpeg(mode)
    found = Decoder(order, exact=True).decode(data[:-2] + bytes(9) + data[-2:])
    assert np.array_equal(found.pixels, Decoder(order, exact=True).decode(data).pixels)


@pytest.mark.parametrize("change", [{9: 2}, {9: 3}])
def test_a_warning_about_the_header_leaves_no_pixel_as_it_was_in_memory(change, monkeypatch):
    """The decoder stops at such a warning before it has written one pixel."""
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 77, dtype))
    found = Decoder(exact=True).decode(changed(0xE0, change))
    assert np.abs(found.pixels.astype(int) - pillow(jpeg())).max() <= 12


UNSUPPORTED = {
    "12 bits": (changed(0xC0, {4: 12}), "12 bits a sample"),
    "two components": (flat_jpeg([(1, 1)] * 2, [10, 20]), "2 components"),
    "five components": (flat_jpeg([(1, 1)] * 5, [1, 2, 3, 4, 5]), "5 components"),
    "hierarchical": (changed(0xC0, {1: 0xC5}), "hierarchical"),
    "JPEG-LS": (changed(0xC0, {1: 0xF7}), "JPEG-LS"),
    "lossless": (changed(0xC0, {1: 0xC3}), "color conversion"),
    "lossless, arithmetic": (changed(0xC0, {1: 0xCB}), "lossless JPEG with arithmetic"),
    "height behind the data": (changed(0xC0, {5: 0, 6: 0}), "DNL"),
    "more factors than a block holds": (flat_jpeg([(2, 2)] * 3, [1, 2, 3]), "factors 2x2, 2x2, 2x2"),
    "factors that do not divide": (flat_jpeg([(3, 1), (2, 1), (2, 1)], [1, 2, 3]), "3x1, 2x1, 2x1"),
    "too wide": (flat_jpeg([(1, 1)] * 3, [40, -60, 90], 65_535, 8), "65535x8.*sides of 65500"),
    "too tall": (flat_jpeg([(1, 1)] * 3, [40, -60, 90], 8, 65_535), "8x65535.*sides of 65500"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_decoded_is_named_and_not_called_damaged(name, guard):
    data, words = UNSUPPORTED[name]
    for decoder in (Decoder(), Decoder(guard=guard)):
        with pytest.raises(UnsupportedFormat, match=words) as caught:
            decoder.decode(data, 20, 20)
        assert "damaged" not in str(caught.value)


def test_the_longest_side_that_libjpeg_takes_is_decoded():
    data = flat_jpeg([(1, 1)] * 3, [40, -60, 90], 65_500, 8)
    assert Decoder(exact=True).decode(data).pixels.shape == (8, 65_500, 3)


DAMAGED = {
    "cut": jpeg()[:-40],
    "cut behind a doubled profile": with_segments(profile(1, 1), profile(1, 1))[:-40],
    "cut behind stray bytes": with_segments(b"\0\0\0")[:-40],
    "cut behind a surprise of JFIF": changed(0xE0, {9: 2})[:-40],
    "cut, 1x4": flat_jpeg([(1, 4), (1, 1), (1, 1)], [40, -60, 90])[:-20],
    "cut, 3x1": flat_jpeg([(3, 1), (1, 1), (1, 1)], [40, -60, 90])[:-20],
    "cut, 3x1, with an end": flat_jpeg([(3, 1), (1, 1), (1, 1)], [40, -60, 90], 640, 480)[:-900]
    + b"\xff\x06",
    "wrong restart": RESTARTS.replace(b"\xff\xd1", b"\xff\xd5", 1),
    "no quantisation": without(0xDB),
    "frame of a false length": changed(0xC0, {3: 0x13}),
    "scan before the frame": without(0xC0),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_lost_pixels_are_damage(name):
    with pytest.raises(UndecodableImage, match=r"damaged|truncated"):
        Decoder().decode(DAMAGED[name], 20, 20)
