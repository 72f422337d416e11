"""Names what is sent in place of a picture of an accepted format, by its first bytes."""

from __future__ import annotations

import re

__all__ = ["name_of"]

_MOVIES = frozenset((b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"M4V ", b"qt  "))
_HEIF = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
_AVIF = frozenset((b"avif", b"avis"))
_BEGINNINGS = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II\xbc", "JPEG XR"),
    (b"BPG\xfb", "BPG"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"icns", "an icon (ICNS)"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"BA", "an OS/2 array of bitmaps"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"\x1f\x8b", "gzip without the header Content-Encoding: gzip"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"data:image/", "a data URL"),
    (b"/9j/", "a JPEG in base64"),
    (b"iVBORw0KGgo", "a PNG in base64"),
    (b"UklGR", "a WebP in base64"),
    (b"R0lGOD", "a GIF in base64"),
)
_TEXTS = (
    (re.compile(rb"(?i)\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*|<!doctype svg[^>]*>\s*)*<svg\b", re.S), "SVG"),
    (re.compile(rb"(?i)\s*<(?:!doctype html|html)\b"), "HTML"),
    (re.compile(rb"P[1-7]\s"), "a Netpbm picture (PBM, PGM, PPM, PAM)"),
    (re.compile(rb"\s*[\[{]\s*(?:[\"\[{\]}]|-?\d)"), "JSON"),
    (re.compile(rb"--[\w'()+,./:=?-]{1,70}\r?\n(?i:content-)"), "a multipart form without its Content-Type"),
)
_LOOKED_AT = 256


def name_of(view: memoryview) -> str:
    """What the bytes seem to be; empty where that is not known.

    Args:
        view: the whole body.
    """
    start = bytes(view[:_LOOKED_AT])
    if start[4:8] == b"ftyp":
        return _of_brands(start)
    if start[128:132] == b"DICM":
        return "DICOM"
    for beginning, name in _BEGINNINGS:
        if start.startswith(beginning):
            return name
    return next((name for pattern, name in _TEXTS if pattern.match(start)), "")


def _of_brands(start: bytes) -> str:
    """The kind of an ISO media file, by its main brand and those it is compatible with."""
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))]
    for brand in brands:
        if brand in _AVIF:
            return "AVIF"
        if brand in _HEIF:
            return "HEIC"
        if brand == b"crx ":
            return "a camera's raw file (CR3)"
    if brands[0] in (b"mif1", b"msf1"):
        return "HEIF"
    return "an MP4 or QuickTime video" if _MOVIES.intersection(brands) else "an ISO media file"
