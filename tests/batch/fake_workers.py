"""Workers that answer in this thread, and die as they are told."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from cpuserve.batch.work_units import WorkUnit
from cpuserve.batch.worker_task import LoadedModel, UnitNews, UnitRow
from cpuserve.batch.workers import Answered, WorkerLost

__all__ = ["MODEL", "FakeWorkers", "row_of"]

MODEL = LoadedModel("digits", 1, "aa" * 32, "f32")


def row_of(uri: str, frame: int | None = None) -> dict[str, Any]:
    """The row of a picture or frame."""
    place = {} if frame is None else {"frame": frame, "pts": frame * 10, "time_s": frame / 25}
    return {"input": uri, **place, "predictions": [{"class_id": 1, "label": uri, "probability": 0.5}]}


class FakeWorkers:
    """Answers units in pieces and in any order.

    Args:
        count: of workers.
        dies: is asked before each row; where it says so its worker dies.
        seed: of the order.
        frames: of every video.
    """

    def __init__(
        self,
        count: int,
        dies: Callable[[str, int], bool] = lambda *_: False,
        seed: int = 0,
        frames: int = 600,
    ) -> None:
        self.loaded = MODEL
        self.answered: list[tuple[str, int]] = []
        self.lost = 0
        self._dies, self._frames = dies, frames
        self._random = random.Random(seed)  # noqa: S311
        self._given: dict[int, list[WorkUnit]] = {number: [] for number in range(count)}
        self._next = count

    def ready(self) -> Sequence[int]:
        return [*self._given]

    def give(self, worker: int, unit: WorkUnit) -> None:
        assert len(self._given[worker]) < 2
        self._given[worker].append(unit)

    def news(self, timeout_s: float) -> Sequence[Answered | WorkerLost]:
        busy = [worker for worker, given in self._given.items() if given]
        if not busy:
            return []
        worker = self._random.choice(busy)
        unit = self._given[worker].pop(0)
        places = unit.wanted
        if unit.is_video:
            places = tuple(range(unit.start, self._frames if unit.stop is None else unit.stop))
        told: list[Answered | WorkerLost] = []
        rows: list[UnitRow] = []
        for place in places:
            uri = unit.inputs[0 if unit.is_video else place]
            if self._dies(uri, place):
                told += [Answered(worker, UnitNews(unit.number, rows))] if rows else []
                self._given[self._next] = []
                self._next += 1
                del self._given[worker]
                self.lost += 1
                return [*told, WorkerLost(worker, "it was ended by SIGKILL")]
            self.answered.append((uri, place))
            rows.append(UnitRow(place, orjson.dumps(row_of(uri, place if unit.is_video else None))))
            if self._random.random() < 0.1:
                told.append(Answered(worker, UnitNews(unit.number, rows)))
                rows = []
        return [*told, Answered(worker, UnitNews(unit.number, rows, ended=True))]

    def close(self) -> None:
        """Nothing is open."""
