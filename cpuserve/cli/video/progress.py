"""Shows how far a run over videos is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from cpuserve.cli.console import progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cpuserve.video.infer import LiveCounts
    from cpuserve.video.video_file import VideoFile
    from cpuserve.video.video_sources import VideoSource

__all__ = ["FrameProgress"]

_BAR_S = 0.2  # between two updates of the bar


class FrameProgress:
    """Writes frames a second and the time that is left to stderr. A context manager.

    The time left follows from the sizes of the files, so that no file has to be read for it.

    Args:
        sources: the videos.
        shown: False shows nothing.
        clock: seconds.
    """

    def __init__(
        self,
        sources: Sequence[VideoSource],
        *,
        shown: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sizes = {source.name: 0 if source.live else source.path.stat().st_size for source in sources}
        self._shown = shown
        self._stack = ExitStack()
        self._bar: tuple[Progress, TaskID] | None = None
        self._clock = clock
        self._began = self._last = clock()
        self._name, self._total, self._first = "", 0, 0
        self._place = self._bytes_done = self._bytes_here = self._frames = 0
        self._skipped = 0.0
        self._latest: tuple[int, LiveCounts] | None = None

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, TextColumn  # noqa: PLC0415  # not for --help

        columns = BarColumn(), TextColumn("{task.description}", markup=False)
        bars = self._stack.enter_context(progress(*columns, shown=self._shown, lines=self._lines))
        self._bar = bars, bars.add_task("", total=sum(self._sizes.values()) or None)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self, source: VideoSource, video: VideoFile | None, start: int) -> None:
        """A video begins with the frame of number ``start``."""
        if not self._place:  # loading the model is over, and tells nothing of the time that is left
            self._began = self._clock()
        self._name, self._total, self._first = source.name, 0 if video is None else video.frames, start
        self._place += 1
        self._bytes_done, self._bytes_here = self._bytes_done + self._bytes_here, self._sizes[source.name]
        self._skipped += self._share(start)

    def frame(self, number: int, counts: LiveCounts) -> None:
        """A frame was written."""
        self._frames += 1
        self._latest = number, counts
        now = self._clock()
        if self._bar is None or not self._shown or now - self._last < _BAR_S:
            return
        self._last = now
        bars, task = self._bar
        done = self._bytes_done + self._share(number + 1)
        bars.update(task, description=self.text(number, counts, now), completed=done)

    def _lines(self) -> Iterator[str]:
        """How far it is, outside a terminal."""
        if self._latest is not None:
            yield self.text(*self._latest, self._clock())

    def end(self, source: VideoSource, _error: str) -> None:
        """A video ended; what it has counts as done once the next one begins."""

    def text(self, number: int, counts: LiveCounts, now: float) -> str:
        """One line on how far the run is.

        Args:
            number: of the latest frame.
            counts: of live sources.
            now: by the clock.
        """
        spent = max(1e-9, now - self._began)
        words = [f"{self._name}: frame {number + 1}"]
        if self._total:
            words[0] += f" of {self._total}"
        if len(self._sizes) > 1:
            words[0] = f"video {self._place} of {len(self._sizes)}, {words[0]}"
        words.append(f"{self._frames / spent:.1f} fps")
        if counts.dropped or not self._total:
            words.append(f"{counts.dropped} dropped")
        if counts.reconnects:
            words.append(f"{counts.reconnects} reconnects")
        whole = sum(self._sizes.values())
        if self._total and whole:
            done = (self._bytes_done + self._share(number + 1)) / whole
            here = done - self._skipped / whole
            if here > 0:
                words.append(f"{_time(spent * (1 - done) / here)} left")
        return ", ".join(words)

    def _share(self, number: int) -> float:
        """Bytes of the current video that its first frames stand for."""
        return self._sizes[self._name] * min(1.0, number / self._total) if self._total else 0.0


def _time(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
