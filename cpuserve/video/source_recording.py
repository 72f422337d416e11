"""Records some seconds of a live source as they come, so that they can be played again and again."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from cpuserve.errors import VideoError
from cpuserve.machine.process_controls import block_signals
from cpuserve.video.ffmpeg import av, reason
from cpuserve.video.live_decoder import open_live
from cpuserve.video.video_sources import VideoSource, shown_address

__all__ = ["recorded"]

_PATIENCE_S = 20.0  # beyond the seconds that are asked for: until the first key frame, or between packets
_TICKS = 1000  # a second, of Matroska's clock


@contextmanager
def recorded(source: VideoSource, seconds: float, max_pixels: int) -> Iterator[Path]:
    """A file with the first seconds of a source from a key frame on, copied and not decoded.

    It is removed afterwards.

    Args:
        source: a live one; a recording behind an address is read no further than asked for.
        seconds: how many. A source that ends before gives what it has.
        max_pixels: of a picture.

    Raises:
        VideoError: it cannot be read, or gives no key frame.
    """
    with tempfile.TemporaryDirectory(prefix="cpuserve-recording-") as folder:
        file, shown = Path(folder) / "recording.mkv", source.name
        try:
            count = _interruptible(partial(_copy, source, file, seconds, max_pixels))
        except VideoError as error:
            raise VideoError(shown_address(str(error))) from None  # the cause has the password
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{shown}: it cannot be recorded ({reason(error)})") from error
        if not count:
            raise VideoError(f"{shown}: it gave no key frame in {seconds + _PATIENCE_S:.0f} s")
        yield file


def _interruptible(copy: Callable[[], int]) -> int:
    """What a function gives or raises, in a thread of its own: FFmpeg hears no Ctrl-C while it waits."""
    future: Future[int] = Future()

    def run() -> None:
        block_signals()
        try:
            future.set_result(copy())
        except Exception as error:  # noqa: BLE001  # raised where it is waited for
            future.set_exception(error)

    # it is left behind where the user does not wait for it
    threading.Thread(target=run, name="recording", daemon=True).start()
    return future.result()


def _copy(source: VideoSource, file: Path, seconds: float, max_pixels: int) -> int:
    """Copy packets from a key frame on; how many."""
    pipe = "pipe:0" if source.name == "-" else None
    container, stream = open_live(source.address, max_pixels, _PATIENCE_S, target=pipe)
    count, began = 0, 0.0
    until = time.monotonic() + seconds + _PATIENCE_S
    with container, av.open(str(file), "w") as target:
        copy: Any = target.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if time.monotonic() > until:
                break
            if not packet.size or not (count or packet.is_keyframe):
                continue
            times = [_seconds(ticks, packet.time_base) for ticks in (packet.pts, packet.dts)]
            began = began if count else times[1]
            if times[1] - began >= seconds:
                break
            packet.time_base = Fraction(1, _TICKS)
            packet.pts, packet.dts = (round((at - began) * _TICKS) for at in times)
            packet.stream = copy
            target.mux(packet)
            count += 1
    return count


def _seconds(ticks: int | None, base: Fraction | None) -> float:
    """A time by the clock of the source, or by ours where it has none."""
    return time.monotonic() if ticks is None or base is None else float(ticks * base)
