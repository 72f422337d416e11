"""Decodes a live source until it ends, and opens it again where it breaks, in a process of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuserve.errors import VideoError
from cpuserve.video.decoder_messages import LIVE_COUNTS, Result, SourceEnd, Watch
from cpuserve.video.ffmpeg import PacketMark, av, reason
from cpuserve.video.file_end import cut_end
from cpuserve.video.frame import Frame
from cpuserve.video.packets import PacketTable, is_cut, open_video, stored_packets
from cpuserve.video.picture_scaler import PictureScaler
from cpuserve.video.picture_slots import PictureSlots, Placed
from cpuserve.video.segments import Segment
from cpuserve.video.video_file import VideoFile
from cpuserve.video.video_sources import shown_address

if TYPE_CHECKING:
    from cpuserve.video.frame_stage import FrameStage, StageResult

__all__ = ["LiveDecoder", "StageFailed", "open_live"]

_PLACES = {name: place for place, name in enumerate(LIVE_COUNTS)}
_SKIPS = {"all": "DEFAULT", "nonref": "NONREF", "nonkey": "NONKEY"}
_CAMERA = re.compile(r"/dev/video\d+")
_NO_END = 1 << 62
_LOOK_S = 0.02  # from one look at the end of a growing file to the next
# what a server answers that will not change by asking again
_REFUSALS = (
    av.HTTPBadRequestError,
    av.HTTPUnauthorizedError,
    av.HTTPForbiddenError,
    av.HTTPNotFoundError,
)


class _GrowingFile:
    """A file for FFmpeg that ends when nothing is added to it any more. It cannot go back in it."""

    def __init__(self, place: Path, timeout_s: float) -> None:
        self.name = str(place)
        self._file = place.open("rb", buffering=0)
        self._timeout_s = timeout_s
        self._ended = False

    def read(self, size: int) -> bytes:
        """Up to so many bytes, as soon as there are any; none at the end."""
        end = time.monotonic() + self._timeout_s
        while not (data := self._file.read(size)) and not self._ended:
            self._ended = time.monotonic() > end
            time.sleep(_LOOK_S)
        return data or b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class StageFailed(Exception):
    """A stage raised ``cause``. It is no fault of the source, which would be opened again."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def open_live(
    address: str,
    max_pixels: int,
    timeout_s: float,
    *,
    options: Mapping[str, str] | None = None,
    target: Any = None,
) -> tuple[Any, Any]:
    """The container of a live source and its video stream.

    Args:
        address: of a stream or camera, a named pipe, or ``-``.
        max_pixels: of a picture.
        timeout_s: to wait for it, and for what it sends.
        options: of FFmpeg's container and protocol.
        target: what is read in place of the address.

    Raises:
        VideoError: it cannot be opened, or has no video.
    """
    given, format_ = dict(options or {}), None
    if _CAMERA.fullmatch(address):
        format_ = "video4linux2"
    elif address.startswith("rtsp"):
        given = {"rtsp_transport": "tcp", **given}
    return open_video(target or address, max_pixels, given, format=format_, timeout=timeout_s)


class LiveDecoder:
    """Runs a stage on the frames of one live source.

    Args:
        watch: what is asked for.
        stage: runs on each frame.
        pipe: descriptor of the pipe that the address ``-`` stands for.
        slots: where pictures go. A frame for whose pictures no slot is free is dropped and counted.
        send: takes each `Result`.
        heard: takes in what the reader has sent, among it slots that are free again; waits for it as many
            seconds as it is given.
    """

    def __init__(
        self,
        watch: Watch,
        stage: FrameStage,
        pipe: int,
        slots: PictureSlots,
        send: Callable[[Result], None],
        heard: Callable[[float], None],
    ) -> None:
        self._watch = watch
        self._stage = stage
        self._pipe = pipe
        self._slots = slots
        self._send = send
        self._heard = heard
        self._number = watch.number
        self._connections = 0
        self._began: float | None = None
        self._behind = watch.behind
        self._waits = False  # for its reader: a recording behind an address comes as fast as it is read

    def run(self) -> SourceEnd:
        """Decode until the source ends by itself, or is given up."""
        failures, wait_s = 0, self._watch.waits_s[0]
        while True:
            before = self._number
            try:
                if self._connection():
                    return SourceEnd()
                why = "it was closed"
            except VideoError as error:
                why = str(error)
                if isinstance(error.__cause__, _REFUSALS) and not self._number:
                    return SourceEnd(reason(error.__cause__))
            except (av.FFmpegError, OSError) as error:
                why = self._silence() if isinstance(error, av.ExitError) else reason(error)
            if self._number > before:
                failures, wait_s = 0, self._watch.waits_s[0]
            failures += 1
            if self._watch.attempts is not None and failures >= self._watch.attempts:
                why = shown_address(why).replace(f"pipe:{self._pipe}", "standard input")
                return SourceEnd(f"it gave no frame in {failures} attempts: {why}")
            self._count("reconnects")
            self._wait(wait_s)
            wait_s = min(2 * wait_s, self._watch.waits_s[1])

    def _silence(self) -> str:
        return f"nothing came in {self._watch.timeout_s:g} s (option --live-timeout)"

    def _connection(self) -> bool:
        """Decode one connection to its end; whether that is the end of the source, too."""
        watch, place = self._watch, Path(self._watch.address)
        target: Any = None
        grows = place.is_file()
        if grows:
            target = _GrowingFile(place, watch.timeout_s)
        elif watch.address == "-":
            target = f"pipe:{self._pipe}"
        given = {"options": watch.options, "target": target}
        began = time.monotonic()
        try:
            container, stream = open_live(watch.address, watch.max_pixels, watch.timeout_s, **given)
        except VideoError as error:
            if time.monotonic() - began < watch.timeout_s:
                raise
            # FFmpeg ends its wait by saying, of RTSP, that the answer was no valid one
            raise VideoError(self._silence()) from error.__cause__
        with container:
            # what has a length is a recording: it ends, and is gone on with where it broke off
            away = "://" in watch.address and (container.size > 0 or bool(container.duration))
            recorded = grows or away
            self._waits = away
            self._slots.tell(int(away), _PLACES["recorded"])
            stream.thread_type = "NONE"
            stream.codec_context.skip_frame = _SKIPS[watch.which]
            self._decode(stream, recorded=recorded)
        return recorded or watch.address == "-" or place.is_fifo()

    def _decode(self, stream: Any, *, recorded: bool) -> None:
        scaler = PictureScaler()
        self._connections += 1
        began = False
        offset_s: float | None = None
        for picture in self._pictures(stream):
            if recorded and self._behind is not None and (picture.pts or 0) <= self._behind:
                continue
            if picture.pts is not None:
                self._behind = picture.pts
                self._slots.tell(picture.pts, _PLACES["pts"])
            now = time.monotonic()
            self._began = self._began or now
            # the last frames, which the decoder held back, have no time base of their own
            shown_s = now if picture.pts is None else float(picture.pts * (stream.time_base or 0))
            # times go on from when a connection began; within it they are those of the source
            offset_s = now - self._began - shown_s if offset_s is None else offset_s
            number, self._number = self._number, self._number + 1
            self._slots.tell(number)
            self._count("decoded")
            if number % self._watch.every:
                continue
            frame = Frame(
                picture,
                scaler,
                number=number,
                pts=picture.pts or 0,
                time_s=max(0.0, shown_s + offset_s),
                key=bool(picture.key_frame),
                packet_bytes=picture.opaque or 0,
            )
            try:
                if not began:
                    began = True
                    self._stage.start(self._video(stream, frame), self._segment(number))
                made = self._stage(frame)
            except Exception as error:
                raise StageFailed(error) from error
            if made is not None:
                self._give(frame, made)

    def _pictures(self, stream: Any) -> Iterator[Any]:
        """All pictures of a connection. Damaged packets are counted, and passed over.

        Raises:
            VideoError: a recording was cut off.
        """
        stream.codec_context.copy_opaque = True
        container, behind = stream.container, 0
        for packet in stored_packets(container, stream):
            if self._waits and packet.is_corrupt and is_cut(container, packet):
                raise VideoError("it ends inside a packet")
            behind = max(behind, (packet.pos or 0) + packet.size)
            packet.opaque = PacketMark(packet.size)
            try:
                pictures = packet.decode()
            except av.InvalidDataError:
                self._count("errors")
                continue
            yield from pictures
        yield from stream.codec_context.decode(None)
        if self._waits and (damage := cut_end(container, stream, behind)) is not None:
            raise VideoError(damage)

    def _give(self, frame: Frame, made: StageResult) -> None:
        slot = -1
        placed: Placed = {}
        self._heard(0)
        if made.pictures:
            found = self._slots.try_put(made.pictures)
            while found is None and self._waits:
                self._heard(_LOOK_S)
                found = self._slots.try_put(made.pictures)
            if found is None:
                self._count("dropped")
                return
            slot, placed = found
        self._send(Result(frame.number, frame.pts, frame.time_s, made.value, slot, placed))

    def _count(self, name: str) -> None:
        place = _PLACES[name]
        self._slots.tell(self._slots.told(place) + 1, place)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._heard(left)

    def _segment(self, number: int) -> Segment:
        return Segment(self._connections - 1, number, _NO_END, 0)

    def _video(self, stream: Any, frame: Frame) -> VideoFile:
        """What stages are told of the source: it has no table of packets."""
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        none, no = np.zeros(0, np.int64), np.zeros(0, np.bool_)
        return VideoFile(
            path=Path(shown_address(self._watch.address)),
            width=frame.width,
            height=frame.height,
            frame_rate=float(rate),
            codec=stream.codec_context.name,
            time_base=stream.time_base or 1 / rate,
            duration_s=0.0,
            pts=none,
            packet_bytes=none,
            key=no,
            ordered=False,
            segments=(),
            packets=PacketTable(none, none, none, none, no, no, no, None),
            rows=none,
            numbers=none,
        )
