"""Encodes a video with the answers drawn on its frames, in parts that survive when the writer is killed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from cpuserve.errors import CpuserveError
from cpuserve.serving.decode import Pixels
from cpuserve.serving.postprocess import Answer
from cpuserve.serving.render import draw_answer
from cpuserve.video.outputs.journal import cannot_write

__all__ = ["PART_FRAMES", "AnnotatedVideo"]

PART_FRAMES = 250
_CODECS = ("libx264", "libopenh264", "mpeg4")  # the first that FFmpeg was built with
_OPTIONS = {
    # on AVX-512, x264's macroblock tree reads memory that nobody wrote: no two runs need be alike
    "libx264": {"preset": "veryfast", "crf": "23", "mbtree": "0"},
    "mpeg4": {"qscale": "3"},
}
_BT601, _LIMITED = 6, 1  # what swscale makes of RGB, in FFmpeg's numbers


class AnnotatedVideo:
    """Draws answers on frames and encodes them as MP4, upright and of an even size.

    The frames go into parts of `PART_FRAMES`, each a file that is there whole or not at all; `join` makes one
    file of them without encoding again. So a killed run goes on behind its last part.

    Attributes:
        parts: how many parts are whole.

    Args:
        folder: takes the parts; those of an earlier run are kept.

    Raises:
        CpuserveError: the folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.parts = 0
        while self._part(self.parts).exists():
            self.parts += 1
        self._frames = self._first_pts = 0
        self._pts: int | None = None  # of the frame before
        self._container: Any = None
        self._stream: Any = None

    def append(
        self, picture: Pixels, answer: Answer, mask: Pixels | None, pts: int, time_base: Fraction
    ) -> None:
        """Draw and encode one frame.

        Args:
            picture: BGR u8 [H, W, 3]; it is drawn on.
            answer: the model's.
            mask: classes of the pixels u8 [H, W], of a segmentation.
            pts: its time. A frame that is not later than the one before is shown one unit behind that.
            time_base: seconds of one unit of ``pts``, the same for all frames.

        Raises:
            CpuserveError: the part cannot be written.
        """
        draw_answer(picture, answer, mask)
        even = _even(picture)
        self._pts = pts if self._pts is None else max(pts, self._pts + 1)
        pts = self._pts
        try:
            if self._container is None:
                self._open(even.shape[1], even.shape[0], pts, time_base)
            frame = av.VideoFrame.from_ndarray(even, format="bgr24")
            frame.pts, frame.time_base = pts - self._first_pts, time_base
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise cannot_write(self._part(self.parts), error) from error
        self._frames += 1
        if self._frames == PART_FRAMES:
            self.end_part()

    def end_part(self) -> None:
        """Finish the part that is being written, if there is one.

        Raises:
            CpuserveError: it cannot be written.
        """
        if self._container is None:
            return
        part = self._part(self.parts)
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._partial().replace(part)
        except OSError as error:
            raise cannot_write(part, error) from error
        self._container = self._stream = None
        self._frames = 0
        self.parts += 1

    def join(self, path: Path, first_times_s: Sequence[float]) -> None:
        """Write all parts into one file, which is there whole or not at all.

        Args:
            path: the file.
            first_times_s: time of the first frame of each part, seconds.

        Raises:
            CpuserveError: it cannot be written.
        """
        if not self.parts:
            return
        partial = path.with_name(f"{path.name}.partial")
        try:
            with av.open(str(partial), "w", format="mp4") as whole:
                target: Any = None
                behind = 0
                for place in range(self.parts):
                    with av.open(str(self._part(place))) as part:
                        source: Any = part.streams.video[0]
                        target = target or whole.add_stream_from_template(source)
                        seconds = first_times_s[place] - first_times_s[0]
                        offset = round(seconds / float(source.time_base))
                        packets: Any = part.demux(source)
                        for packet in packets:
                            if packet.dts is None:
                                continue
                            # no frame is shown in another order than it is decoded in
                            packet.pts = packet.dts = max(packet.dts + offset, behind)
                            behind = packet.dts + 1
                            packet.stream = target
                            whole.mux(packet)
            partial.replace(path)
        except OSError as error:
            raise cannot_write(path, error) from error

    def _open(self, width: int, height: int, pts: int, time_base: Fraction) -> None:
        codec = next((name for name in _CODECS if name in av.codecs_available), "")
        if not codec:
            raise CpuserveError(
                f"FFmpeg has none of the encoders {', '.join(_CODECS)}: write jsonl, csv or parquet"
            )
        self._first_pts = pts
        self._container = av.open(str(self._partial()), "w", format="mp4")
        # a part begins anew, and no frame waits for a later one: so parts can be joined
        options = {**_OPTIONS.get(codec, {}), "bf": "0"}
        stream: Any = self._container.add_stream(codec, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.colorspace, stream.codec_context.color_range = _BT601, _LIMITED
        self._stream = stream

    def _part(self, place: int) -> Path:
        return self._folder / f"{place:06}.mp4"

    def _partial(self) -> Path:
        return self._folder / "part.partial"


def _even(picture: Pixels) -> Pixels:
    """The picture with its last row and column doubled where their number is odd."""
    height, width = picture.shape[:2]
    if not (height % 2 or width % 2):
        return picture
    grown = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(grown, np.uint8)
