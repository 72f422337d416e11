"""The record of a run, beside what it writes: what was asked, and which videos are done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.video.outputs.journal import cannot_write
from cpuserve.video.video_sources import VideoSource

__all__ = ["RunRecord"]


@dataclass
class RunRecord:
    """What a run was asked for and how far it came; kept in a JSON file.

    Attributes:
        path: the file.
        asked: what decides the answers: model, checksum, options, the videos with their sizes.
        done: by the name of each video that is finished, why it ended early; empty for one that did not.
        complete: whether the outputs are made.
    """

    path: Path
    asked: Mapping[str, Any]
    done: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            CpuserveError: it cannot be written.
        """
        partial = self.path.with_name(f"{self.path.name}.partial")
        content = {"asked": self.asked, "done": self.done, "complete": self.complete}
        try:
            partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
            partial.replace(self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def read_back(self) -> bool:
        """Take over how far a run with the same record came; False where there is no record yet.

        Raises:
            UsageError: the record is of a run that was asked for something else.
            CpuserveError: it cannot be read.
        """
        try:
            content = orjson.loads(self.path.read_bytes())
            before, done, complete = content["asked"], content["done"], content["complete"]
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CpuserveError(f"{self.path} cannot be read: {error.strerror}") from error
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise CpuserveError(
                f"{self.path} is no record of a run: remove it, and start anew with --overwrite"
            ) from error
        now = orjson.loads(orjson.dumps(self.asked))
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise UsageError(
                    f"--resume: {name} was {_short(before.get(name))} in the run that {self.path} records, "
                    f"and is {_short(now.get(name))} now: ask for the same, or start anew with --overwrite"
                )
        self.done, self.complete = done, complete
        return True

    def refuse_live(self, sources: Iterable[VideoSource]) -> None:
        """Refuse to go on with a live source that has not ended.

        Raises:
            UsageError: there is one.
        """
        if again := next((one.name for one in sources if one.live and one.name not in self.done), None):
            raise UsageError(
                f"--resume goes on with files: what the live source {again} sent meanwhile is gone, and its "
                "frames would be numbered from 0 again. Give another -o, or --overwrite"
            )


def refuse_present(
    sources: Iterable[VideoSource], files: Iterable[Path], *, resume: bool, overwrite: bool
) -> None:
    """Refuse to replace what is there.

    Args:
        sources: the videos of the run.
        files: that would be replaced, those that are there and others.
        resume: whether the user wants to go on with an earlier run, which is not known.
        overwrite: whether the user wants to replace what it left.

    Raises:
        UsageError: a file is there already, or is one of the videos.
    """
    videos = [source for source in sources if not source.live]
    for file in files:
        if not file.exists():
            continue
        if own := next((one.name for one in videos if one.path.samefile(file)), None):
            raise UsageError(f"the output {file} is the video {own}, which would be lost: give another -o")
        if not overwrite:
            what = "--resume has no record of the run that wrote it" if resume else "--resume continues it"
            raise UsageError(f"{file} is there already: {what}, --overwrite replaces it")


def _short(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 120 else f"{text[:117]}..."
