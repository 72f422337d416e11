"""Makes a page in one file that plays a video with comments which pass behind what a mask track outlines."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from markupsafe import Markup

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.reports.page import render
from cpuserve.video.comments import Comment
from cpuserve.video.mask_track import MaskTrack

__all__ = ["MOST_EMBEDDED_BYTES", "embedded_video", "player_page", "relative_video"]

MOST_EMBEDDED_BYTES = 64 << 20
"""Of a video that is put into the page; the page is a third larger."""

_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
_ROOM = "cpuserve.video"


def relative_video(video: Path, folder: Path) -> str:
    """The address of a video for a page in a folder: a relative one, so that both can be moved together."""
    return quote(os.fsencode(os.path.relpath(video.resolve(), folder.resolve())))


def embedded_video(video: Path) -> str:
    """The address of a video that holds the whole of it.

    Raises:
        UsageError: it is too large.
        CpuserveError: it cannot be read.
    """
    try:
        size = video.stat().st_size
        if size > MOST_EMBEDDED_BYTES:
            raise UsageError(
                f"{video} has {size >> 20} MB; a page holds {MOST_EMBEDDED_BYTES >> 20} MB at most: "
                "leave out --embed and keep page and video together"
            )
        content = base64.b64encode(video.read_bytes()).decode()
    except OSError as error:
        raise CpuserveError(f"{video} cannot be read: {error.strerror}") from error
    kind = _TYPES.get(video.suffix.lower(), "video/mp4")
    return f"data:{kind};base64,{content}"


def player_page(
    title: str, address: str, width: int, height: int, track: MaskTrack, comments: Sequence[Comment]
) -> str:
    """The page.

    Args:
        title: of the page.
        address: of the video, as `relative_video` or `embedded_video` gives it.
        width: of the video, pixels.
        height: of the same.
        track: where comments are hidden.
        comments: to begin with; viewers add their own.
    """
    data = {
        "width": track.width,
        "height": track.height,
        "times": track.times,
        "paths": track.paths,
        "comments": [asdict(comment) for comment in comments],
    }
    return render(
        _ROOM,
        "mask_player.html",
        title=title,
        address=address,
        width=width,
        height=height,
        mask_width=track.width,
        mask_height=track.height,
        data=_json(data),
        style=_text("mask_player.css"),
        # one script, so that the policy of the page names one hash
        script=_text("danmaku.dom.min.js") + _text("mask_player.js"),
        licence=_text("danmaku.LICENSE"),
    )


def _text(name: str) -> Markup:
    """A file of the templates, to be put into the page as it is."""
    return Markup((files(_ROOM) / "templates" / name).read_text("utf-8"))  # noqa: S704  # a file of this package


def _json(data: Any) -> Markup:
    """JSON that may stand in a script element: nothing in it ends one."""
    text = orjson.dumps(data).decode().replace("<", "\\u003c")
    return Markup(text)  # noqa: S704
