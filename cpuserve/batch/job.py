"""Runs a job: hands units to workers, keeps their rows, and has units answered again whose worker died."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from cpuserve.batch.job_folder import JobFolder
from cpuserve.batch.work_units import WorkUnit
from cpuserve.batch.worker_task import UnitNews
from cpuserve.batch.workers import Answered, BatchWorkers, WorkerLost
from cpuserve.errors import CpuserveError
from cpuserve.machine.files import text_of_path

__all__ = ["BatchSummary", "run_job"]

_log = logging.getLogger("cpuserve.batch")
_AHEAD = 2  # units that a worker has: one under way, one that waits
_DEATHS_BEFORE_ALONE = 2  # of workers with a unit; then each picture of it goes alone
_MOST_DEATHS = 3  # of workers with one picture or frame alone; then its row is an error
_MOST_IN_A_ROW = 20  # deaths without a row between them; then it is not the pictures
_LOOK_S = 1.0


@dataclass
class BatchSummary:
    """What a run did.

    Attributes:
        rows: written in this run.
        rows_before: that an earlier run left.
        workers_lost: how often a worker died.
        seconds: it took.
    """

    rows: int = 0
    rows_before: int = 0
    workers_lost: int = 0
    seconds: float = 0.0

    def as_json(self, folder: JobFolder) -> dict[str, Any]:
        """For ``--json``."""
        said = folder.manifest.as_json()
        return {
            "rows": said["rows"],
            "errors": said["errors"],
            "shards": len(said["shards"]),
            "complete": said["complete"],
            "rows_before": self.rows_before,
            "rows_now": self.rows,
            "workers_lost": self.workers_lost,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows / self.seconds, 2) if self.seconds else 0.0,
            "manifest": str(folder.manifest.path),
        }


def run_job(
    folder: JobFolder, workers: BatchWorkers, progressed: Callable[[int], None] = lambda _rows: None
) -> BatchSummary:
    """Answer everything that is missing in a folder.

    Args:
        folder: takes the rows.
        workers: answer.
        progressed: is told how many rows were written since.

    Raises:
        CpuserveError: no worker can be had, or the folder cannot be written. What is written stays, and the
            same job goes on there.
    """
    began = time.monotonic()
    run = _Run(folder, workers, progressed)
    run.answer_all()
    folder.complete()
    run.summary.seconds = time.monotonic() - began
    return run.summary


@dataclass(frozen=True)
class _Work:
    """A part of a unit that a worker has or gets.

    Attributes:
        unit: the part.
        alone: whether the worker gets nothing beside it, since it may be what ends workers.
    """

    unit: WorkUnit
    alone: bool = False

    @property
    def key(self) -> tuple[int, int | None]:
        """What deaths are counted by: the unit, and the first picture or frame of a part that goes alone."""
        if not self.alone:
            return self.unit.number, None
        return self.unit.number, self.unit.start if self.unit.is_video else self.unit.wanted[0]


@dataclass
class _Run:
    folder: JobFolder
    workers: BatchWorkers
    progressed: Callable[[int], None]
    summary: BatchSummary = field(default_factory=BatchSummary)
    _waiting: deque[_Work] = field(default_factory=deque)
    _given: dict[int, list[_Work]] = field(default_factory=dict)
    _deaths: Counter[tuple[int, int | None]] = field(default_factory=Counter)
    _in_a_row: int = 0

    def answer_all(self) -> None:
        self.summary.rows_before = self.folder.rows_before
        self._waiting = deque(map(_Work, self.folder.left()))
        while self._waiting or any(self._given.values()):
            self._hand_out()
            for told in self.workers.news(_LOOK_S):
                if isinstance(told, WorkerLost):
                    self._lost(told)
                else:
                    self._answered(told)

    def _hand_out(self) -> None:
        """Give waiting units to the workers that have least, in order."""
        while self._waiting:
            work = self._waiting[0]
            free = [worker for worker in self.workers.ready() if self._takes(worker, work)]
            if not free:
                return
            worker = min(free, key=lambda one: len(self._given.get(one, ())))
            self._given.setdefault(worker, []).append(self._waiting.popleft())
            self.workers.give(worker, work.unit)

    def _takes(self, worker: int, work: _Work) -> bool:
        given = self._given.get(worker, [])
        if work.alone or any(one.alone for one in given):
            return not given
        return len(given) < _AHEAD

    def _answered(self, told: Answered) -> None:
        given = self._given.get(told.worker, [])
        work = next((one for one in given if one.unit.number == told.news.unit), None)
        if work is None:  # of a worker that was given up
            return
        self.folder.computed_in(self.workers.loaded.precision)
        self._keep(work.unit, told.news)
        if told.news.ended:
            given.remove(work)

    def _keep(self, unit: WorkUnit, news: UnitNews) -> None:
        added = sum(self.folder.add(unit, row.place, row.row) for row in news.rows)
        if news.ended and unit.is_video:
            self.folder.end(unit)
        if news.rows:
            self._in_a_row = 0
        self.summary.rows += added
        if added:
            self.progressed(added)

    def _lost(self, lost: WorkerLost) -> None:
        """Have what a worker had answered again, first of all.

        Raises:
            CpuserveError: workers die one after the other without a row.
        """
        self.summary.workers_lost += 1
        self._in_a_row += lost.suspect
        _log.warning("%s; its pictures and frames are answered again", lost.reason)
        if self._in_a_row >= _MOST_IN_A_ROW:
            raise CpuserveError(f"{_MOST_IN_A_ROW} workers ended without a row between them: {lost.reason}")
        again: list[_Work] = []
        for work in self._given.pop(lost.worker, []):
            again += self._again(work, lost)
        self._waiting.extendleft(reversed(again))

    def _again(self, work: _Work, lost: WorkerLost) -> list[_Work]:
        """What is left of a work whose worker died."""
        self._deaths[work.key] += lost.suspect
        reason, deaths = lost.reason, self._deaths[work.key]
        left = self.folder.part_left(work.unit)
        if left is None:
            return []
        if not work.alone:
            if deaths < _DEATHS_BEFORE_ALONE:
                return [replace(work, unit=left)]
            if left.is_video:
                return [_Work(left, alone=True)]
            return [_Work(replace(left, picks=(pick,)), alone=True) for pick in left.wanted]
        if left.is_video:
            if left.start > work.unit.start or deaths < _MOST_DEATHS:
                return [_Work(left, alone=True)]
            self._give_up(left, left.start, reason)
        elif work.unit.wanted[0] in left.wanted:
            if deaths < _MOST_DEATHS:
                return [work]
            self._give_up(work.unit, work.unit.wanted[0], reason)
        return []

    def _give_up(self, unit: WorkUnit, index: int, reason: str) -> None:
        """Make an error of a picture, or of a frame and those behind it in its part."""
        uri = unit.inputs[0 if unit.is_video else index]
        place = {"frame": index} if unit.is_video else {}
        text = f"every worker that was to answer it has ended, {_MOST_DEATHS} times with it alone: {reason}"
        row = orjson.dumps({"input": text_of_path(uri), **place, "error": text})
        self.summary.rows += self.folder.add(unit, index, row)
        if unit.is_video:
            self.folder.end(unit)
        self.progressed(1)
