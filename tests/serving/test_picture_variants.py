"""Variants of WebP, PNG, TIFF, BMP and GIF: read as Pillow reads them, or refused for a true reason."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from cpuserve.errors import UndecodableImage, UnsupportedFormat
from cpuserve.serving.decode import Decoder
from cpuserve.serving.exif import exif_orientation
from cpuserve.serving.picture_header import read_header
from cpuserve.serving.preprocess import Resizer
from tests.attack_pictures import chunk, png
from tests.made_pictures import (
    FOUR,
    RAMP,
    bmp,
    encoded,
    exif,
    jpeg,
    pillow,
    segment,
    segments,
    tiff,
    webp,
    with_segments,
)

TURNED = np.rot90(FOUR, -1)  # orientation 6: the picture lies on its left side


def upright(data):
    """The picture as a model gets it, not resized."""
    pixels, orientation, width, height = Decoder(exact=True).decode(data)
    row = np.empty((height, width, 3), np.uint8)
    Resizer(width, height).into(row, pixels, orientation)
    return row


BLOCKS = {
    **{f"{kind} {order}": exif(6, order, kind) for kind in (3, 4, 8, 9) for order in "<>"},
    "without an end": exif(6, end=b""),
    "with too many entries": exif(6, entries=500),
    "at an odd place": exif(6, pad=1),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
def test_an_orientation_is_found_in_every_format(name, prefix):
    block = prefix + BLOCKS[name]
    found = encoded("PNG")
    at = found.index(b"IDAT") - 4
    assert np.array_equal(upright(webp(block)), TURNED)
    assert np.array_equal(upright(found[:at] + chunk(b"eXIf", block) + found[at:]), TURNED)
    assert np.array_equal(upright(found[:-12] + chunk(b"eXIf", block) + found[-12:]), TURNED)
    photo = with_segments(segment(0xE1, b"Exif\0\0" + block))
    assert np.abs(upright(photo).astype(int) - np.rot90(pillow(jpeg()), -1)).max() <= 12


@pytest.mark.parametrize(
    "block", [exif(6, kind=1), exif(9), exif(0), b"", b"Exif\0\0", b"II*\0" + b"\xff" * 9]
)
def test_exif_data_without_an_orientation_turn_nothing(block):
    assert exif_orientation(memoryview(block)) == 0
    assert np.array_equal(upright(webp(block)), FOUR)
    empty_first = with_segments(segment(0xE1, b"Exif\0\0" + block), segment(0xE1, b"Exif\0\0" + exif(6)))
    assert read_header(empty_first).orientation == 6


def test_an_orientation_behind_the_frame_header_of_a_jpeg():
    block = segment(0xE1, b"Exif\0\0" + exif(6))
    parts, data = segments(jpeg())
    late = b"\xff\xd8" + b"".join((*parts[:-1], block, parts[-1])) + data
    assert np.abs(upright(late).astype(int) - np.rot90(pillow(jpeg()), -1)).max() <= 12
    assert read_header(b"\xff\xd8" + b"".join(parts) + block + data).orientation == 1  # no segment


def test_a_webp_without_the_flag_for_exif_is_not_turned():
    assert np.array_equal(upright(webp(exif(6), flags=0)), FOUR)


@pytest.mark.parametrize("name", [b"exif", b"APP1"])
def test_the_exif_data_that_imagemagick_puts_into_the_text_of_a_png(name):
    block = b"Exif\0\0" + exif(6)
    text = b"\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n"
    head = b"Raw profile type " + name + b"\0"
    found = encoded("PNG")
    at = found.index(b"IDAT") - 4
    for made in (chunk(b"tEXt", head + text), chunk(b"zTXt", head + b"\0" + zlib.compress(text))):
        assert np.array_equal(upright(found[:at] + made + found[at:]), TURNED)
    for bad in (chunk(b"tEXt", head + b"nothing"), chunk(b"zTXt", head + b"\0nothing"), chunk(b"tEXt", head)):
        assert np.array_equal(upright(found[:at] + bad + found[at:]), FOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned(orientation):
    turned = tiff(8, 2, FOUR.tobytes(), 3, tags={274: (3, [orientation])})
    photo = with_segments(segment(0xE1, b"Exif\0\0" + exif(orientation)), data=jpeg(quality=100))
    assert np.abs(upright(turned).astype(int) - upright(photo)).max() <= 6


@pytest.mark.parametrize("cut", [1, 4, 5, 12])
def test_a_png_that_has_lost_its_end_is_whole(cut):
    found = encoded("PNG")
    assert np.array_equal(upright(found[:-cut]), FOUR)
    with pytest.raises(UndecodableImage, match="truncated"):
        Decoder().decode(found[:-20])


def test_pngs_that_are_none_are_named():
    found = encoded("PNG")
    with pytest.raises(UnsupportedFormat, match="CgBI"):
        Decoder().decode(found[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + found[8:])
    with pytest.raises(UndecodableImage, match="begin with its only header"):
        Decoder().decode(found[:8] + chunk(b"tEXt", b"a\0b") + found[8:])


def test_a_gif_that_has_lost_its_end_is_whole():
    assert np.array_equal(upright(encoded("GIF")[:-1]), pillow(encoded("GIF")))


def test_sides_beyond_a_decoders_limit_are_named():
    with pytest.raises(UnsupportedFormat, match=r"1000001x1 .*sides of 1000000"):
        Decoder().decode(png(width=1_000_001, height=1))
    with pytest.raises(UnsupportedFormat, match=r"1048577x1 .*sides of 1048576"):
        Decoder().decode(bmp(24, bytes(1_048_577 * 3 + 1), width=1_048_577, height=1))
    head = b"WEBPVP8X" + struct.pack("<II", 10, 0) + (16_383).to_bytes(3, "little") + bytes(3)
    with pytest.raises(UnsupportedFormat, match=r"16384x1 .*sides of 16383"):
        Decoder().decode(b"RIFF" + struct.pack("<I", len(head)) + head)
    assert upright(encoded("WEBP", np.full((2, 16_383, 3), 90, np.uint8), lossless=True)).shape[1] == 16_383


def bits(pixels, width):
    """Rows of grey pixels with fewer bits a sample."""
    return np.packbits(
        np.unpackbits(pixels[..., None] >> 8 - width, axis=2)[:, :, 8 - width :].reshape(48, -1)
    )


PALETTE = [value * 257 for value in range(256)]
PLANES = [FOUR[..., channel].tobytes() for channel in range(3)]
READABLE_TIFF = {
    **{f"grey {order}": tiff(8, 1, RAMP.tobytes(), order=order) for order in "<>"},
    **{f"RGB {order}": tiff(8, 2, FOUR.tobytes(), 3, order=order) for order in "<>"},
    "white is 0": tiff(8, 0, RAMP.tobytes()),
    "1 bit": tiff(1, 1, bits(RAMP, 1).tobytes()),
    "1 bit, white is 0": tiff(1, 0, bits(RAMP, 1).tobytes()),
    "1 bit, reversed": tiff(1, 1, bits(RAMP, 1).tobytes(), tags={266: (3, [2])}),
    "palette": tiff(8, 3, RAMP.tobytes(), tags={320: (3, PALETTE + PALETTE[::-1] + PALETTE)}),
    "palette of 16": tiff(4, 3, bits(RAMP, 4).tobytes(), tags={320: (3, [4369 * n for n in range(16)] * 3)}),
    "planes": tiff(8, 2, PLANES, 3, tags={284: (3, [2])}),
    "alpha": tiff(8, 2, np.dstack([FOUR, RAMP]).tobytes(), 4, tags={338: (3, [2])}),
    "unnamed fourth sample": tiff(8, 2, np.dstack([FOUR, RAMP]).tobytes(), 4, tags={338: (3, [0])}),
    "grey and alpha": tiff(8, 1, np.dstack([RAMP, RAMP]).tobytes(), 2, tags={338: (3, [2])}),
    "CMYK": tiff(8, 5, np.dstack([255 - FOUR, RAMP * 0]).tobytes(), 4, tags={332: (3, [1])}),
    **{
        name: encoded("TIFF", FOUR, mode, compression=name)
        for name, mode in (
            *(("tiff_lzw", "RGB"), ("tiff_adobe_deflate", "RGB"), ("packbits", "RGB"), ("jpeg", "RGB")),
            *(("group3", "1"), ("group4", "1"), ("tiff_deflate", "CMYK")),
        )
    },
}


@pytest.mark.parametrize("name", READABLE_TIFF)
def test_a_tiff_is_read_as_pillow_reads_it(name):
    found = upright(READABLE_TIFF[name])
    assert np.abs(found.astype(int) - pillow(READABLE_TIFF[name])).max() <= 2


def test_sixteen_bits_are_cut_to_eight():
    deep = tiff(16, 1, (RAMP.astype(np.uint16) * 257).tobytes())
    assert np.array_equal(upright(deep)[..., 0], RAMP)
    planes = [(FOUR[..., channel].astype(np.uint16) * 257).tobytes() for channel in range(3)]
    assert np.array_equal(upright(tiff(16, 2, planes, 3, tags={284: (3, [2])})), FOUR)


def test_tiles_are_read():
    tall = np.vstack([FOUR, FOUR[:16]])
    tiles = [tall[y : y + 32, x : x + 32].tobytes() for y in (0, 32) for x in (0, 32)]
    assert np.array_equal(upright(tiff(8, 2, tiles, 3, tile=(32, 32))), FOUR)
    small = [
        zlib.compress(FOUR[y : y + 16, x : x + 16].tobytes()) for y in (0, 16, 32) for x in range(0, 64, 16)
    ]
    assert np.array_equal(upright(tiff(8, 2, small, 3, tile=(16, 16), tags={259: (3, [8])})), FOUR)


UNSUPPORTED_TIFF = {
    "4 bits a sample": tiff(4, 1, bits(RAMP, 4).tobytes()),
    "2 bits a sample": tiff(2, 1, bits(RAMP, 2).tobytes()),
    "12 bits a sample": tiff(12, 1, bytes(64 * 48 * 3 // 2)),
    "32 bits a sample": tiff(32, 1, RAMP.astype(np.uint32).tobytes()),
    "2 bits a sample is": tiff(2, 3, bits(RAMP, 2).tobytes(), tags={320: (3, [0] * 12)}),
    "floats": tiff(32, 1, RAMP.astype(np.float32).tobytes(), tags={339: (3, [3])}),
    "signed whole numbers": tiff(16, 1, RAMP.astype(np.int16).tobytes(), tags={339: (3, [2])}),
    "5 samples a pixel": tiff(8, 2, np.dstack([FOUR, RAMP, RAMP]).tobytes(), 5, tags={338: (3, [0, 0])}),
    "compression old-style JPEG": tiff(8, 6, jpeg(), 3, tags={259: (3, [6]), 513: (4, [8]), 514: (4, [9])}),
    "compression JPEG 2000": tiff(8, 2, FOUR.tobytes(), 3, tags={259: (3, [34712])}),
    "compression Zstandard": encoded("TIFF", compression="zstd"),
    "compression LZMA": encoded("TIFF", compression="lzma"),
    "compression WebP": tiff(8, 2, encoded("WEBP"), 3, tags={259: (3, [50001])}),
    "compression number 9999": tiff(8, 2, FOUR.tobytes(), 3, tags={259: (3, [9999])}),
    "a sensor's raw data": tiff(8, 32803, RAMP.tobytes()),
    "CIE Lab": tiff(8, 8, FOUR.tobytes(), 3),
    "a transparency mask": tiff(1, 4, bits(RAMP, 1).tobytes()),
    "tiles of 768 bytes": tiff(8, 2, [bytes(768)] * 12, 3, tile=(16, 16)),
}


@pytest.mark.parametrize("words", UNSUPPORTED_TIFF)
def test_a_tiff_that_is_not_decoded_is_named_and_not_called_damaged(words):
    with pytest.raises(UnsupportedFormat, match=f"^TIFF with .*{words}.* not supported; ") as caught:
        Decoder().decode(UNSUPPORTED_TIFF[words])
    assert "damaged" not in str(caught.value)


def test_a_palette_that_is_not_there_is_damage():
    with pytest.raises(UndecodableImage, match="palette"):
        Decoder().decode(tiff(8, 3, RAMP.tobytes()))


ROWS = FOUR[::-1].astype(np.uint32)
R565, R555 = (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)


def fields(masks, dtype):
    """Rows of `FOUR` from the bottom up, each colour in its field of bits."""
    found = np.zeros((48, 64), np.uint64)
    for channel, mask in enumerate(masks):
        low = (mask & -mask).bit_length() - 1
        most = mask >> low
        found |= (ROWS[..., channel].astype(np.uint64) * most + 127) // 255 << np.uint64(low)
    return found.astype(dtype).tobytes()


BGR = np.ascontiguousarray(FOUR[::-1, :, ::-1])
SIXTEEN = RAMP // 4 % 16
COLOURS = b"".join(bytes([n * 16, 255 - n * 16, n * 7, 0]) for n in range(16))
RUNS = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in SIXTEEN.tolist()) + b"\0\1"
READABLE_BMP = {
    **{
        f"24 bits, header {size}": bmp(24, BGR.tobytes(), header=size)
        for size in (12, 40, 52, 56, 64, 108, 124)
    },
    "24 bits, top down": bmp(24, FOUR[..., ::-1].tobytes(), height=-48),
    "32 bits": bmp(32, np.dstack([BGR, RAMP * 0]).tobytes()),
    "555": bmp(16, fields(R555, "<u2")),
    **{
        f"565, header {size}": bmp(16, fields(R565, "<u2"), 3, size, (*R565, *[0] * (size > 40)))
        for size in (40, 52, 56, 108, 124)
    },
    "4 bits": bmp(4, (SIXTEEN[:, ::2] << 4 | SIXTEEN[:, 1::2]).tobytes(), palette=COLOURS),
    "8 bits": bmp(8, SIXTEEN.tobytes(), palette=COLOURS * 16),
    "1 bit": bmp(1, b"\xf0" * 8 * 48, palette=b"\0\0\xff\0\xff\0\0\0"),
    "4 bits of OS/2": bmp(
        *(4, (SIXTEEN[:, ::2] << 4 | SIXTEEN[:, 1::2]).tobytes(), 0, 12),
        palette=b"".join(COLOURS[at : at + 3] for at in range(0, 64, 4)),
    ),
    "run lengths": bmp(8, RUNS, 1, palette=COLOURS * 16),
}


@pytest.mark.parametrize("name", READABLE_BMP)
@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
def test_a_bmp_is_read_as_pillow_reads_it(name, order):
    found = Decoder(order).decode(READABLE_BMP[name]).pixels.astype(int)
    want = pillow(READABLE_BMP[name])
    if order == "GRAY":
        assert np.abs(found - want @ [0.299, 0.587, 0.114]).max() <= 2
    else:
        assert np.abs(found - want[..., :: 1 if order == "RGB" else -1]).max() <= 2


@pytest.mark.parametrize(
    ("masks", "dtype"),
    [
        ((0xF00, 0xF0, 0xF), "<u2"),
        ((0x1F, 0x7E0, 0xF800), "<u2"),
        ((0xFF, 0xFF00, 0xFF0000), "<u4"),
        ((0xFF000000, 0xFF0000, 0xFF00), "<u4"),
        ((0x3FF00000, 0xFFC00, 0x3FF), "<u4"),
    ],
)
@pytest.mark.parametrize("height", [48, -48])
def test_the_fields_of_a_bmp_may_have_any_place(masks, dtype, height):
    data = bmp(int(dtype[2]) * 8, fields(masks, dtype), 3, 40, masks, height=height)
    found = upright(data) if height > 0 else upright(data)[::-1]
    assert np.abs(found.astype(int) - FOUR).max() <= 255 // min(mask.bit_count() ** 2 for mask in masks)


@pytest.mark.parametrize("masks", [(0xF00, 0xF0, 0), (0xF0F, 0xF0, 0xF), (0xF0000, 0xF0, 0xF)])
def test_fields_that_are_none_are_damage(masks):
    with pytest.raises(UndecodableImage, match="mask"):
        Decoder().decode(bmp(16, bytes(64 * 48 * 2), 3, 40, masks))
    with pytest.raises(UndecodableImage, match="truncated"):
        Decoder().decode(bmp(16, bytes(64 * 47 * 2)))
    with pytest.raises(UndecodableImage, match="ends inside its header"):
        Decoder().decode(bmp(16, bytes(9), 3, 40, R565)[:60])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bmp(2, bytes(16 * 48)), "2 bits a pixel"),
        (bmp(0, jpeg(), 4), "a JPEG inside"),
        (bmp(0, encoded("PNG"), 5), "a PNG inside"),
        (bmp(24, BGR.tobytes(), header=16), "header of 16 bytes"),
        (bmp(24, BGR.tobytes(), 11), "compression number 11"),
    ],
)
def test_a_bmp_that_is_not_decoded_is_named_and_not_called_damaged(data, words):
    with pytest.raises(UnsupportedFormat, match=f"^BMP with .*{words}.* not supported; send "):
        Decoder().decode(data)


def brands(*names):
    return struct.pack(">I", 8 + 4 * len(names) + 4) + b"ftyp" + names[0] + bytes(4) + b"".join(names[1:])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encoded("AVIF"), "AVIF"),
        (brands(b"mif1", b"mif1", b"avif"), "AVIF"),
        (brands(b"heic", b"mif1"), "HEIC"),
        (brands(b"mif1", b"mif1", b"heic"), "HEIC"),
        (brands(b"msf1", b"hevc"), "HEIC"),
        (brands(b"isom", b"mp41"), "MP4"),
        (brands(b"crx ", b"isom"), "CR3"),
        (encoded("JPEG2000"), "JPEG 2000"),
        (encoded("JPEG2000", no_jp2=True), "JPEG 2000"),
        (b"\xff\x0a" + bytes(9), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "PSD"),
        (b"%PDF-1.7", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- made -->\n<svg/>", "SVG"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b'{"data": 1}', "JSON"),
        (b"/9j/4AAQSkZJRg", "JPEG in base64"),
        (b"data:image/png;base64,iVBO", "data URL"),
        (bytes(128) + b"DICM", "DICOM"),
        (encoded("PPM"), "Netpbm"),
        (encoded("ICO"), "ICO"),
        (b"\x1f\x8b\x08", "gzip"),
    ],
)
def test_what_is_sent_in_place_of_a_picture_is_named_with_what_to_send(data, name):
    with pytest.raises(
        UnsupportedFormat, match=f"is .*{name}.*, which is not supported; send JPEG, PNG, WebP"
    ):
        read_header(data)
