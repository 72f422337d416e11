"""Scaled pictures have the pixels that FFmpeg's own filters give."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from cpuserve.video.picture_scaler import PictureScaler
from cpuserve.video.scale import Scale
from tests.made_videos import numbered_picture

FORMATS = [
    *(
        "yuv420p",
        "yuvj420p",
        "yuv422p",
        "yuv444p",
        "yuva420p",
        "yuv420p10le",
        "yuv420p12le",
        "p010le",
        "nv12",
    ),
    *("gray", "gray10le", "rgb24", "rgba", "bgr24", "gbrp", "rgb48le", "yuyv422", "yuv410p"),
]
COLOURS = {"RGB": "rgb24", "BGR": "bgr24", "GRAY": "gray"}
PART = (0.25, 0.25, 0.75, 0.75)


def made_picture(number: int, width: int, height: int, name: str = "yuv420p") -> av.VideoFrame:
    picture = av.VideoFrame.from_ndarray(numbered_picture(number, width, height), "rgb24")
    picture = picture.reformat(format=name)
    picture.time_base, picture.pts = Fraction(1, 25), 0
    return picture


def filtered(picture, colour: str, width: int, height: int, scaler: str, crop: str | None) -> np.ndarray:
    """The picture by FFmpeg's crop, scale and format filters."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        f"width={picture.width}:height={picture.height}:pix_fmt={picture.format.name}:time_base=1/25:"
        f"pixel_aspect=1/1:colorspace={picture.colorspace}:range={picture.color_range}",
    )
    nodes = [source, graph.add("crop", crop)] if crop else [source]
    nodes.append(graph.add("scale", f"{width}:{height}:flags={scaler}+accurate_rnd+bitexact"))
    graph.link_nodes(*nodes, graph.add("format", COLOURS[colour]), graph.add("buffersink")).configure()
    graph.push(picture)
    return graph.pull().to_ndarray()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("colour", COLOURS)
def test_pixels_are_those_of_ffmpegs_filters(name, colour):
    for space in (1, 2, 5, 6, 9):  # BT.709, unknown, BT.601 of two kinds, BT.2020
        for range_ in (0, 1, 2):  # unknown, limited, full
            picture = made_picture(1234, 96, 64, name)
            picture.colorspace, picture.color_range = space, range_
            for width, height, part in ((48, 40, None), (96, 64, None), (50, 30, PART)):
                crop = "48:32:24:16" if part else None
                wanted = filtered(picture, colour, width, height, "bilinear", crop)
                found = PictureScaler().scale(picture, Scale(width, height, colour, region=part))
                assert np.array_equal(found.squeeze(), wanted), (space, range_, part)


@pytest.mark.parametrize("scaler", ["bilinear", "bicubic", "area"])
def test_each_scaler_is_ffmpegs(scaler):
    picture = made_picture(77, 192, 128)
    found = PictureScaler().scale(picture, Scale(50, 50, "RGB", scaler))
    assert np.array_equal(found, filtered(picture, "RGB", 50, 50, scaler, None))


def test_padding_lies_around_the_scaled_picture():
    picture = made_picture(77, 192, 128)
    scale = Scale(96, 96, fit="fit_to_window_letterbox", pad_value=114)
    found = PictureScaler().scale(picture, scale)
    assert np.array_equal(found[16:80], PictureScaler().scale(picture, Scale(96, 64)))
    assert (found[:16] == 114).all()
    assert (found[80:] == 114).all()


def test_pictures_that_change_their_size_are_scaled_alike():
    scaler = PictureScaler()
    for width in (96, 192, 96):
        picture = made_picture(5, width, 64)
        scale = Scale(40, 30, region=(0.5, 0.5, 1, 1))
        assert np.array_equal(scaler.scale(picture, scale), PictureScaler().scale(picture, scale))
