"""Headers of real and of damaged pictures."""

import struct

import cv2
import numpy as np
import pytest

from cpuserve.errors import UndecodableImage, UnsupportedFormat
from cpuserve.serving.jpeg_header import count_scans
from cpuserve.serving.picture_header import FORMATS, read_header
from tests.attack_pictures import jpeg_of_scans, sequential_jpeg_of_scans


def encoded(extension, width=37, height=23, *options):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(extension, pixels, list(options))[1].tobytes()


@pytest.mark.parametrize(
    ("extension", "name"),
    [
        (".jpg", "JPEG"),
        (".png", "PNG"),
        (".webp", "WebP"),
        (".gif", "GIF"),
        (".tiff", "TIFF"),
        (".bmp", "BMP"),
    ],
)
def test_size_and_format_come_from_the_first_bytes(extension, name):
    header = read_header(encoded(extension))
    assert (header.format, header.width, header.height, header.orientation) == (name, 37, 23, 1)
    assert name in FORMATS


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_WEBP_QUALITY, 50), (cv2.IMWRITE_WEBP_QUALITY, 101)])
def test_webp_lossy_and_lossless(options):
    header = read_header(encoded(".webp", 300, 17, *options))
    assert (header.width, header.height) == (300, 17)


def test_webp_extended():
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + b"\0\0\0\0"
        + (639).to_bytes(3, "little")
        + (479).to_bytes(3, "little")
    )
    header = read_header(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    assert (header.width, header.height) == (640, 480)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_both_byte_orders_and_bigtiff(order):
    mark = b"II" if order == "<" else b"MM"
    entries = [(256, 3, 70), (257, 4, 50)]

    def entry(tag, kind, value, long):
        packed = struct.pack(order + ("H" if kind == 3 else "I"), value).ljust(8 if long else 4, b"\0")
        return struct.pack(order + "HH" + ("Q" if long else "I"), tag, kind, 1) + packed

    small = (
        mark + struct.pack(order + "HIH", 42, 8, len(entries)) + b"".join(entry(*e, False) for e in entries)
    )
    big = mark + struct.pack(order + "HHHQQ", 43, 8, 0, 16, 2) + b"".join(entry(*e, True) for e in entries)
    for data in (small, big):
        header = read_header(data)
        assert (header.format, header.width, header.height) == ("TIFF", 70, 50)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_of_a_jpeg(orientation, order):
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIHHHI", 42, 8, 1, 0x0112, 3, 1)
    tiff += struct.pack(order + "HH", orientation, 0) + b"\0\0\0\0"
    block = b"Exif\0\0" + tiff
    jpeg = encoded(".jpg")
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
    assert read_header(data).orientation == orientation


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage!!"]
)
def test_a_damaged_exif_block_counts_as_none(block):
    jpeg = encoded(".jpg")
    data = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
    assert read_header(data).orientation == 1


def test_every_cut_of_every_format_is_refused_and_nothing_else_happens():
    for extension in (".jpg", ".png", ".webp", ".gif", ".tiff", ".bmp"):
        data = encoded(extension)
        for length in range(min(len(data), 700)):
            try:
                header = read_header(data[:length])
            except (UndecodableImage, UnsupportedFormat):
                continue
            assert (header.width, header.height) == (37, 23)


@pytest.mark.parametrize("data", [b"hello, world", b"%PDF-1.7", b"\0\0\0\x0cjP  \r\n\x87\n", b"x"])
def test_what_is_no_picture_is_named_with_the_formats_that_are(data):
    with pytest.raises(UnsupportedFormat, match="JPEG, PNG"):
        read_header(data)


def tiff(*tags):
    """A TIFF of tags (number, kind, value); the first two words after its head are 3000 and 2000."""
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IQQ", 24, 3000, 2000)
    return head + struct.pack("<H", len(tags)) + directory + bytes(4)


@pytest.mark.parametrize(
    "tags",
    [
        ((256, 4, 3000), (256, 4, 3), (257, 4, 2000), (257, 4, 3)),  # decoders take the first
        ((256, 16, 8), (257, 16, 16)),  # a LONG8 lies elsewhere; its place is not the size
        ((256, 2, 3), (257, 9, 3)),
    ],
)
def test_a_tiff_cannot_say_one_size_here_and_another_to_the_decoder(tags):
    assert read_header(tiff((256, 4, 3000), (257, 3, 2000))).width == 3000
    with pytest.raises(UndecodableImage, match="tag 256"):
        read_header(tiff(*tags))


def test_a_small_tiff_cannot_have_huge_tiles():
    size = ((256, 4, 30), (257, 4, 20))
    assert read_header(tiff(*size, (322, 4, 1024), (323, 4, 1024))).width == 30
    with pytest.raises(UndecodableImage, match="tiles of 8192x8192"):
        read_header(tiff(*size, (322, 4, 8192), (323, 4, 8192)))


def test_a_directory_beyond_any_address_is_damage():
    with pytest.raises(UndecodableImage, match="ends inside"):
        read_header(b"II+\0\x08\0\0\0" + b"\xff" * 40)
    exif = b"Exif\0\0II+\0\x08\0\0\0" + b"\xff" * 40
    jpeg = encoded(".jpg")
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert read_header(turned).orientation == 1


def test_a_png_cannot_promise_more_than_it_brings():
    png = encoded(".png")
    at = png.index(b"IDAT") - 4
    for length in (1 << 31, 0xFFFFFFFF, len(png)):
        with pytest.raises(UndecodableImage, match=f"a chunk of {length} bytes"):
            read_header(png[:at] + struct.pack(">I", length) + png[at + 4 :])
    with pytest.raises(UndecodableImage, match="a chunk of 2147483648 bytes"):
        read_header(png[:at] + b"\x80\0\0\0IEND" + png[at:])
    with pytest.raises(UndecodableImage, match="more than 65536 chunks"):
        read_header(png[:at] + b"\0\0\0\0tEXt\0\0\0\0" * 65_536 + png[at:])
    assert read_header(png + b"trailing \xff\xff\xff\xff").width == 37


def test_zero_pixels_are_refused():
    png = bytearray(encoded(".png"))
    png[16:20] = b"\0\0\0\0"
    with pytest.raises(UndecodableImage, match="0x23"):
        read_header(png)


def test_headers_of_the_real_pictures_agree_with_opencv(data_dir):
    for file in sorted((data_dir / "images").glob("*.*")) + sorted(
        (data_dir / "images" / "formats").iterdir()
    ):
        header = read_header(file.read_bytes())
        stored = cv2.imread(str(file), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert (header.height, header.width) == stored.shape[:2], file.name


def scans(data):
    return count_scans(data, read_header(data).frame)


def test_scans_are_counted_where_a_decoder_goes_over_them():
    assert scans(encoded(".jpg")) == 1
    assert scans(encoded(".jpg", 37, 23, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)) > 5
    assert scans(jpeg_of_scans(77)) == 77
    assert scans(jpeg_of_scans(77, frame=0xCA)) == 77
    assert scans(sequential_jpeg_of_scans(77)) == 77


def test_scans_behind_a_sequential_scan_of_all_components_do_not_count():
    assert scans(encoded(".jpg") * 2) == 1


@pytest.mark.parametrize("made", [jpeg_of_scans, sequential_jpeg_of_scans])
def test_nothing_before_the_first_scan_hides_the_others(made):
    jpeg = made(50)
    at = jpeg.index(b"\xff\xc4")
    false_scan = b"\xff\xfe" + struct.pack(">H", 14) + b"\xff\xda\x00\x0c\x03" + bytes(7)
    for hidden in (b"garbage", b"\xff\xff", b"\xff\xc4\0\0", false_scan, b"\xff\xfe\0\2" * 5000):
        assert scans(jpeg[:at] + hidden + jpeg[at:]) >= 50


@pytest.mark.parametrize("segment", [b"\xff", b"\xff\x01", b"\xff\xd0", b"\xff\xe0\0\2"])
def test_a_jpeg_cannot_begin_with_endless_segments(segment):
    jpeg = encoded(".jpg")
    assert read_header(jpeg[:2] + segment * 3000 + jpeg[2:]).width == 37
    with pytest.raises(UndecodableImage, match="more than 4096 segments"):
        read_header(jpeg[:2] + segment * 5000 + jpeg[2:])


def test_a_jpeg_that_ends_between_segments_is_damaged():
    jpeg = encoded(".jpg")
    at = 4 + struct.unpack_from(">H", jpeg, 4)[0]
    with pytest.raises(UndecodableImage, match=f"ends inside its header, after {at + 9000} bytes"):
        read_header(jpeg[:at] + b"\xfe" * 9000)
    for length in range(at, at + 4):
        with pytest.raises(UndecodableImage, match=f"ends inside its header, after {length} bytes"):
            read_header(jpeg[:length])


def test_only_the_first_exif_block_counts():
    jpeg = encoded(".jpg")
    blocks = b""
    for orientation in (6, 3):
        block = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + bytes(6)
        blocks += b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    assert read_header(jpeg[:2] + blocks + jpeg[2:]).orientation == 6


def test_a_tiff_cannot_have_endless_strips_or_tiles():
    size = ((256, 4, 3000), (257, 4, 1_000_000))
    assert read_header(tiff(*size, (278, 4, 16))).height == 1_000_000
    with pytest.raises(UndecodableImage, match=r"1000000 strips or tiles.*65536"):
        read_header(tiff(*size, (278, 4, 1)))
    narrow = ((256, 4, 1), (257, 4, 1_000_000))
    with pytest.raises(UndecodableImage, match="tiles of 4096x1024 pixels for 1x1000000"):
        read_header(tiff(*narrow, (322, 4, 4096), (323, 4, 1024)))
