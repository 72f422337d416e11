"""What the workers tell each other about loading, in shared memory: what is wanted, who has got there."""

from __future__ import annotations

import mmap
import os
import time

from cpuserve.errors import CpuserveError
from cpuserve.serving.model_states import ModelStates
from cpuserve.serving.shared import alive
from cpuserve.serving.trials import Trials
from cpuserve.sharedmem.process_lock import ProcessLock

__all__ = ["Control"]

_MODELS = 64
_NAME_BYTES = 192
_LOOK_S = 0.02


class Control:
    """A generation that grows with every wish, and the generation each worker has carried out.

    Args:
        rows: workers that may live at the same time.

    Attributes:
        trials: which versions a child process has loaded.
        turn: held by the worker that loads beside its traffic: one seat at a time is disturbed.
        states: what the workers say of their models, and the loads that were asked for.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.states = ModelStates(rows)
        numbers = 8 * (1 + 2 * rows)
        whole = memoryview(mmap.mmap(-1, numbers + _MODELS * _NAME_BYTES))
        self._numbers = whole[:numbers].cast("Q")  # generation, then pid and applied by row
        self._unloaded = whole[numbers:]
        self._lock = ProcessLock("cpuserve-control")
        self.trials = Trials()
        self.turn = ProcessLock("cpuserve-turn")

    @property
    def generation(self) -> int:
        """The latest wish."""
        return self._numbers[0]

    def join(self, row: int) -> None:
        """This process is the worker of ``row`` from now on, and has carried out nothing."""
        self._numbers[1 + 2 * row] = os.getpid()
        self._numbers[2 + 2 * row] = 0

    def applied(self, row: int) -> int:
        """The generation a worker has carried out."""
        return self._numbers[2 + 2 * row]

    def set_applied(self, row: int, generation: int) -> None:
        """Say that a generation is carried out."""
        self._numbers[2 + 2 * row] = generation

    def rescan(self) -> int:
        """Wish that every worker looks at the repository; the generation to wait for."""
        with self._lock:
            self._numbers[0] += 1
            return self._numbers[0]

    def unload(self, name: str) -> int:
        """Wish that a model is not served; the generation to wait for.

        Raises:
            CpuserveError: too many models are unloaded already.
        """
        with self._lock:
            if self._place(name) is None:
                free = self._place("")
                if free is None:
                    raise CpuserveError(f"{_MODELS} models are unloaded already; load one or restart")
                self._write(free, name.encode())
            self._numbers[0] += 1
            return self._numbers[0]

    def load(self, name: str) -> int:
        """Wish that a model is served; the generation to wait for."""
        with self._lock:
            place = self._place(name)
            if place is not None:
                self._write(place, b"")
            self._numbers[0] += 1
            self.states.ask(name, self._numbers[0])
            return self._numbers[0]

    def is_unloaded(self, name: str) -> bool:
        """Whether it was wished that a model is not served."""
        return self._place(name) is not None

    def _place(self, name: str) -> int | None:
        wanted = name.encode().ljust(_NAME_BYTES, b"\0")
        for place in range(_MODELS):
            if self._unloaded[place * _NAME_BYTES : (place + 1) * _NAME_BYTES] == wanted:
                return place
        return None

    def _write(self, place: int, name: bytes) -> None:
        self._unloaded[place * _NAME_BYTES : (place + 1) * _NAME_BYTES] = name.ljust(_NAME_BYTES, b"\0")

    def wait(self, generation: int, timeout_s: float) -> bool:
        """Wait until every living worker has carried out a generation; False when the time is over."""
        deadline = time.monotonic() + timeout_s
        while any(
            self.applied(row) < generation and alive(self._numbers[1 + 2 * row]) for row in range(self._rows)
        ):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True
