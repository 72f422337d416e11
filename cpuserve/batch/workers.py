"""What a job asks of its workers, wherever they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cpuserve.batch.work_units import WorkUnit
from cpuserve.batch.worker_task import LoadedModel, UnitNews
from cpuserve.errors import CpuserveError

__all__ = ["Answered", "BatchWorkers", "WorkerLost", "check_model"]


@dataclass(frozen=True)
class Answered:
    """A worker made rows.

    Attributes:
        worker: its number.
        news: the rows.
    """

    worker: int
    news: UnitNews


@dataclass(frozen=True)
class WorkerLost:
    """A worker has ended; another one takes its place where that is possible.

    Attributes:
        worker: its number, which none has again.
        reason: how it ended.
        suspect: whether what it had may have ended it; False where its node was lost.
    """

    worker: int
    reason: str
    suspect: bool = True


class BatchWorkers(Protocol):
    """Processes that answer units, on this machine or elsewhere.

    Attributes:
        loaded: the model of the job, with the precision of its first worker as soon as there is one.
    """

    loaded: LoadedModel

    def ready(self) -> Sequence[int]:
        """The numbers of the workers that have loaded the model."""

    def give(self, worker: int, unit: WorkUnit) -> None:
        """Have a worker answer a unit; that it is gone is told by `news`."""

    def news(self, timeout_s: float) -> Sequence[Answered | WorkerLost]:
        """What happened since, waited for.

        Raises:
            CpuserveError: no worker can be had, or one says that the model cannot be loaded.
        """

    def close(self) -> None:
        """End the workers."""


def check_model(wanted: LoadedModel, loaded: LoadedModel, where: str) -> None:
    """Refuse a worker whose rows would not be those of the others.

    Args:
        wanted: name, version and checksum of the job's model; the precision of its first worker, empty
            where there was none yet.
        loaded: what the worker says.
        where: the worker, for the message.

    Raises:
        CpuserveError: it has another model, or computes in another precision.
    """
    if loaded[:3] != wanted[:3]:
        raise CpuserveError(
            f"{where} has loaded {loaded.name}/{loaded.version} ({loaded.checksum[:12]}), and the job is of "
            f"{wanted.name}/{wanted.version} ({wanted.checksum[:12]}): the model's files were changed; undo "
            "that, or start anew with --overwrite"
        )
    if wanted.precision and loaded.precision != wanted.precision:
        raise CpuserveError(
            f"{where} computes in {loaded.precision}, the others in {wanted.precision}, so that answers "
            f"would depend on who gives them: say --precision {wanted.precision}, or f32, which every CPU has"
        )
