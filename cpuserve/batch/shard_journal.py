"""The rows of a shard that is not whole yet, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from cpuserve.batch.work_units import WorkUnit
from cpuserve.errors import CpuserveError
from cpuserve.video.outputs.journal import FrameJournal, read_lines

__all__ = ["ShardJournal"]


class ShardJournal:
    """Takes rows in any order, each once, and gives them in the order of the job.

    Attributes:
        path: the file.

    Args:
        path: the file; what an earlier run wrote to it counts.
        units: of the shard.

    Raises:
        CpuserveError: it cannot be read or written.
    """

    def __init__(self, path: Path, units: Sequence[WorkUnit]) -> None:
        self.path = path
        self._units = {unit.number: unit for unit in units}
        self._done: dict[int, set[int]] = {unit.number: set() for unit in units}
        self._ended: set[int] = set()
        self._journal = FrameJournal(path)
        for line in read_lines(path):
            try:
                unit, index = line["unit"], line["index"]
                if index is not None:
                    self._note(unit, index)
                if index is None or (self._units[unit].is_video and "error" in line["row"]):
                    self._ended.add(unit)  # the row of an error is a video's last one
            except (KeyError, TypeError) as error:
                self._journal.close()
                raise CpuserveError(
                    f"{path} is no journal of this job ({error!r}): start anew with --overwrite"
                ) from error

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(map(len, self._done.values()))

    @property
    def whole(self) -> bool:
        """Whether no row is missing."""
        return len(self._ended) == len(self._units)

    def add(self, unit: int, index: int, row: bytes) -> bool:
        """Write a row.

        Args:
            unit: number of its unit.
            index: place of the picture in the unit, or number of the frame.
            row: a JSON object.

        Returns:
            Whether it is new; a row that is there already is dropped.

        Raises:
            CpuserveError: it cannot be written, as on a full disk.
        """
        if unit in self._ended or index in self._done[unit]:
            return False
        self._journal.append({"unit": unit, "index": index, "row": orjson.Fragment(row)})
        self._note(unit, index)
        return True

    def end(self, unit: int) -> None:
        """Note that a unit has all its rows.

        Raises:
            CpuserveError: it cannot be written.
        """
        if unit not in self._ended:
            self._journal.append({"unit": unit, "index": None})
            self._ended.add(unit)

    def left(self, unit: WorkUnit) -> WorkUnit | None:
        """The part of a unit whose rows are missing; None where none is."""
        if unit.number in self._ended:
            return None
        done, whole = self._done[unit.number], self._units[unit.number]
        if unit.is_video:
            return replace(whole, start=max(done) + 1) if done else whole
        return replace(whole, picks=tuple(sorted({*whole.wanted} - done)))

    def _note(self, unit: int, index: int) -> None:
        done, whole = self._done[unit], self._units[unit]
        done.add(index)
        if not whole.is_video and len(done) == len(whole.inputs):
            self._ended.add(unit)

    def in_order(self) -> Iterator[dict[str, Any]]:
        """The rows in the order of the job; each is once in it.

        Raises:
            CpuserveError: the file cannot be read.
        """
        rows = {
            (line["unit"], line["index"]): line["row"]
            for line in read_lines(self.path)
            if line["index"] is not None
        }
        for key in sorted(rows):
            yield rows[key]

    def close(self) -> None:
        """Leave the file as it is, so that a later run can go on.

        Raises:
            CpuserveError: what is in memory cannot be written.
        """
        self._journal.close()

    def remove(self) -> None:
        """Remove the file, when its shard is written."""
        self.close()
        self.path.unlink(missing_ok=True)
