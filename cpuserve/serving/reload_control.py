"""Tells all workers through shared memory which models to load and unload, and waits until they have."""

from __future__ import annotations

import time

from cpuserve.errors import RequestError
from cpuserve.serving.asked_rollouts import AskedRollouts
from cpuserve.serving.crash_check import CrashChecks
from cpuserve.serving.model_table import ModelTable
from cpuserve.serving.shadow_counters import ShadowCounters
from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.process_lock import ProcessLock
from cpuserve.sharedmem.record import Bytes, Record, Word

__all__ = ["ReloadControl"]

_MODELS = 1024  # that may be unloaded at one time; pages of names that were never used take no memory
_NAME_BYTES = 256  # a folder's name is shorter
_LOOK_S = 0.02


class _Wanted(Record):
    generation = Word()
    places = Word()  # of names, as far as they were ever used
    unloaded = Bytes(_MODELS * _NAME_BYTES)


class _Worker(Record):
    applied = Word()


class ReloadControl:
    """Counts requests to load or unload as generations, and keeps the generation each worker has reached.

    Args:
        rows: workers that may live at the same time.

    Attributes:
        crash_checks: which versions a child process has loaded.
        turn: held by the worker that loads beside its traffic: one seat at a time is disturbed.
        rollouts: rollouts that came with a load.
        shadows: what the shadows of all workers have found.
        table: the states of the models by worker, and the loads that clients asked for.
    """

    def __init__(self, rows: int) -> None:
        self._block = Block("cpuserve-control", 1, _Wanted, _Worker, rows)
        self._wanted = self._block.head
        self._unloaded = self._wanted.unloaded
        self.table = ModelTable(rows)
        self._lock = self._block.lock
        self.crash_checks = CrashChecks()
        self.turn = ProcessLock("cpuserve-turn")
        self.rollouts = AskedRollouts()
        self.shadows = ShadowCounters(rows)

    @property
    def generation(self) -> int:
        """The generation of the latest request."""
        return self._wanted.generation

    def join(self, row: int) -> None:
        """This process is the worker of ``row`` from now on, at generation 0."""
        self._block.rows[row].applied = 0
        self._block.own(row)

    def applied(self, row: int) -> int:
        """The generation a worker has reached."""
        return self._block.rows[row].applied

    def set_applied(self, row: int, generation: int) -> None:
        """Say that this worker has reached a generation."""
        self._block.rows[row].applied = generation

    def rescan(self) -> int:
        """Ask every worker to look at the repository; returns the generation to wait for."""
        with self._lock:
            self._wanted.generation += 1
            return self._wanted.generation

    def unload(self, name: str) -> int:
        """Ask every worker to unload a model; returns the generation to wait for.

        Raises:
            RequestError: too many models are unloaded already.
        """
        with self._lock:
            if self._place(name) is None:
                place = self._place("")
                if place is None:
                    place = self._wanted.places
                    if place == _MODELS:
                        raise RequestError(
                            f"{_MODELS} models are unloaded already, the limit of a server: load one, or "
                            f"take {name} out of the repository"
                        )
                    self._wanted.places = place + 1
                self._write(place, name.encode())
            self._wanted.generation += 1
            return self._wanted.generation

    def load(self, name: str, rollout: str = "") -> int:
        """Ask every worker to load a model; returns the generation to wait for.

        Args:
            name: of the model.
            rollout: its rollout from now on, as JSON; empty: as the repository and the settings say.

        Raises:
            RequestError: the rollout cannot be kept.
        """
        with self._lock:
            self.rollouts.put(name, rollout)
            place = self._place(name)
            if place is not None:
                self._write(place, b"")
            self._wanted.generation += 1
            self.table.ask_load(name, self._wanted.generation)
            return self._wanted.generation

    def is_unloaded(self, name: str) -> bool:
        """Whether a model is to be unloaded."""
        return self._place(name) is not None

    def _place(self, name: str) -> int | None:
        wanted = name.encode().ljust(_NAME_BYTES, b"\0")
        for place in range(self._wanted.places):
            if self._unloaded[place * _NAME_BYTES : (place + 1) * _NAME_BYTES] == wanted:
                return place
        return None

    def _write(self, place: int, name: bytes) -> None:
        self._unloaded[place * _NAME_BYTES : (place + 1) * _NAME_BYTES] = name.ljust(_NAME_BYTES, b"\0")

    def wait(self, generation: int, timeout_s: float) -> bool:
        """Wait until every living worker has reached a generation; False when the time is over."""
        deadline = time.monotonic() + timeout_s
        while any(
            self.applied(row) < generation and self._block.owner(row) for row in range(len(self._block.rows))
        ):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True
