"""What answered frames are written to: standard output, or files that a killed run can be continued in."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import orjson

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.video.answered_frames import AnsweredFrame
from cpuserve.video.outputs.annotated_video import PART_FRAMES, AnnotatedVideo
from cpuserve.video.outputs.journal import FrameJournal, Line, cannot_write, read_lines
from cpuserve.video.outputs.tables import CsvRows, check_pyarrow, write_csv, write_parquet
from cpuserve.video.video_sources import VideoSource

__all__ = ["FORMATS", "Format", "FrameFiles", "FrameOutput", "FrameStream", "OutputPlan", "plan_output"]

Format = Literal["jsonl", "csv", "parquet", "mp4"]
_LIVE_BASE = Fraction(1, 90_000)
FORMATS: tuple[Format, ...] = ("jsonl", "csv", "parquet", "mp4")


class FrameOutput(Protocol):
    """Takes the answered frames of several videos, one video after the other."""

    def begin(self, source: VideoSource, time_base: Fraction | None) -> Iterator[Line]:
        """Begin with a video; yields the lines that an earlier run wrote of it, in order of the frames.

        Args:
            source: the video.
            time_base: seconds of one unit of its ``pts``; None for a live source.
        """

    def append(self, line: Line, frame: AnsweredFrame) -> None:
        """Write one frame."""

    def end(self, source: VideoSource) -> None:
        """End with a video."""

    def finish(self) -> None:
        """Make the outputs of everything that was written."""

    def close(self) -> None:
        """Leave everything as it is, so that a later run can go on."""


class FrameStream:
    """Writes JSON lines or CSV to a stream as the frames come.

    Args:
        file: takes the bytes.
        as_format: ``jsonl`` or ``csv``.

    Raises:
        CpuserveError: the header cannot be written.
    """

    def __init__(self, file: BinaryIO, as_format: Format) -> None:
        self._file = file
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        with _standard_output():
            self._rows = CsvRows(self._text) if as_format == "csv" else None

    def begin(self, _source: VideoSource, _time_base: Fraction | None) -> Iterator[Line]:
        """Nothing was written before."""
        return iter(())

    def append(self, line: Line, _frame: AnsweredFrame) -> None:
        """Write one frame at once, for whoever reads along.

        Raises:
            BrokenPipeError: nobody reads any more.
            CpuserveError: it cannot be written, as on a full disk.
        """
        with _standard_output():
            if self._rows is None:
                self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            else:
                self._rows.append(line)
            self._file.flush()

    def end(self, _source: VideoSource) -> None:
        """Nothing is to be done."""

    def finish(self) -> None:
        """Everything is written already."""

    def close(self) -> None:
        """Give the stream back as it was.

        Raises:
            CpuserveError: what is in memory cannot be written.
        """
        with _standard_output():
            self._text.detach()


@contextmanager
def _standard_output() -> Iterator[None]:
    """Names it where it cannot be written. Whoever does not read on has what it wanted, as head has."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(Path("standard output"), error) from error


@dataclass(frozen=True)
class OutputPlan:
    """Where the answers to the frames of each video go.

    Attributes:
        as_format: of the files.
        files: by the name of each video; several may share one file.
        record: the file that says how far the run is.
    """

    as_format: Format
    files: Mapping[str, Path]
    record: Path

    def is_there(self) -> bool:
        """Whether each file is there, or what it will be made of."""
        return all(
            file.exists() or _journal_of(self.as_format, file).exists() for file in self.files.values()
        )

    def replaced(self) -> Iterator[Path]:
        """What a new run removes: the files, and what an earlier run has prepared for them."""
        for file in dict.fromkeys(self.files.values()):
            yield file
            if self.as_format != "jsonl":
                yield _work(file)


def plan_output(
    sources: Sequence[VideoSource], target: Path, as_format: Format | None, *, directory: bool
) -> OutputPlan:
    """Choose the files.

    Args:
        sources: the videos.
        target: a file, or a directory in which each video gets a file of its own.
        as_format: None: what the suffix of the target says, else ``jsonl``.
        directory: whether the target is meant as a directory, also where there is none yet.

    Raises:
        UsageError: the format is not that of the suffix, or two videos would be written to one file.
    """
    suffix = target.suffix.lower().removeprefix(".")
    if directory or target.is_dir():
        chosen = as_format or "jsonl"
        files = {source.name: target / f"{source.place}.{chosen}" for source in sources}
        taken: dict[Path, str] = {}
        for name, file in files.items():
            if taken.setdefault(file, name) != name:
                raise UsageError(
                    f"{taken[file]} and {name} would both be written to {file}: write them in two runs"
                )
        return OutputPlan(chosen, files, target / "run.json")
    named = next((one for one in FORMATS if one == suffix), None)
    if as_format and named and as_format != named:
        raise UsageError(f"--format {as_format} does not fit the name {target}")
    chosen = as_format or named or "jsonl"
    if chosen == "mp4" and len(sources) > 1:
        raise UsageError(
            f"{len(sources)} videos do not go into one file {target}: give a directory, as in "
            f"-o {target.stem}/"
        )
    return OutputPlan(
        chosen, {source.name: target for source in sources}, target.with_name(f"{target.name}.run.json")
    )


class FrameFiles:
    """Writes files; each frame first goes into a journal, of which tables are made in the end.

    Args:
        plan: the files.
        facts: of the run, for the metadata of Parquet files.
        anew: remove what an earlier run left.

    Raises:
        CpuserveError: a file cannot be written; nothing has been decoded then.
    """

    def __init__(self, plan: OutputPlan, facts: Mapping[str, str], *, anew: bool) -> None:
        self._plan = plan
        self._facts = facts
        self._journal: FrameJournal | None = None
        self._drawing: AnnotatedVideo | None = None
        self._time_base: Fraction | None = None
        self._resumed: set[Path] = set()
        if plan.as_format == "parquet":
            check_pyarrow()
        for file in dict.fromkeys(plan.files.values()):
            try:
                if anew:
                    file.unlink(missing_ok=True)
                    shutil.rmtree(_work(file), ignore_errors=True)
                file.parent.mkdir(parents=True, exist_ok=True)
                if plan.as_format != "jsonl":
                    _work(file).mkdir(exist_ok=True)
                _journal_of(plan.as_format, file).open("ab").close()
            except OSError as error:
                raise cannot_write(file, error) from error

    def begin(self, source: VideoSource, time_base: Fraction | None) -> Iterator[Line]:
        """Begin with a video; yields the lines that an earlier run wrote of it."""
        file = self._plan.files[source.name]
        journal = _journal_of(self._plan.as_format, file)
        if self._journal is None or self._journal.path != journal:
            self._close_journal()
            self._journal = FrameJournal(journal)
        if self._plan.as_format == "mp4":
            self._drawing, self._time_base = AnnotatedVideo(_work(file)), time_base
            self._journal.keep(self._drawing.parts * PART_FRAMES)
        if file in self._resumed:
            return  # its lines are of the videos before
        self._resumed.add(file)
        yield from (line for line in read_lines(journal) if line["video"] == source.name)

    def append(self, line: Line, frame: AnsweredFrame) -> None:
        """Write one frame.

        Raises:
            CpuserveError: it cannot be written, as on a full disk.
        """
        if self._journal is None:
            raise CpuserveError("a frame came before its video was begun")
        self._journal.append(line)
        if self._drawing is not None and frame.picture is not None:
            live = self._time_base is None  # its clock may begin anew when it is opened anew
            pts = round(frame.time_s / _LIVE_BASE) if live else frame.pts
            self._drawing.append(frame.picture, line, frame.mask, pts, self._time_base or _LIVE_BASE)

    def end(self, _source: VideoSource) -> None:
        """End with a video."""
        if self._drawing is not None:
            self._drawing.end_part()
            self._drawing = None

    def finish(self) -> None:
        """Make the tables and videos, and remove what they were made of."""
        self._close_journal()
        for file in dict.fromkeys(self._plan.files.values()):
            journal = _journal_of(self._plan.as_format, file)
            if journal == file:
                continue
            if journal.exists():
                _MAKERS[self._plan.as_format](self, journal, file)
                shutil.rmtree(_work(file), ignore_errors=True)

    def close(self) -> None:
        """Write what is in memory to the journal, and leave everything as it is."""
        self._close_journal()

    def _csv(self, journal: Path, file: Path) -> None:
        write_csv(read_lines(journal), file)

    def _parquet(self, journal: Path, file: Path) -> None:
        write_parquet(read_lines(journal), file, self._facts)

    def _mp4(self, journal: Path, file: Path) -> None:
        times = [line["time_s"] for line in read_lines(journal)]
        AnnotatedVideo(_work(file)).join(file, times[::PART_FRAMES])

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None


_MAKERS: Mapping[str, Callable[[FrameFiles, Path, Path], None]] = {
    "csv": FrameFiles._csv,
    "parquet": FrameFiles._parquet,
    "mp4": FrameFiles._mp4,
}


def _journal_of(as_format: Format, file: Path) -> Path:
    return file if as_format == "jsonl" else _work(file) / "frames.jsonl"


def _work(file: Path) -> Path:
    """The directory in which a file is prepared."""
    return file.with_name(f"{file.name}.parts")
