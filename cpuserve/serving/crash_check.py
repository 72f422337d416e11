"""Loads a version of a model in a child process first, so that a crash of OpenVINO ends no worker.

Each version is tried once for all workers. One whose child crashed is unavailable, with that reason.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import signal
import subprocess
import sys

from cpuserve.errors import ModelLoadError
from cpuserve.machine.process_controls import die_with_parent
from cpuserve.models.repository import ModelFile
from cpuserve.settings import Settings
from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Bytes, Record, Word

__all__ = ["CrashChecks"]

_log = logging.getLogger("cpuserve.crash_check")
_ROWS = 512
_GOOD = 0
_FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})


class _Count(Record):
    tried = Word()


class _Result(Record):
    digest = Bytes(32)  # of what was tried
    ended_by = Word()  # a signal


class CrashChecks:
    """The results of all crash checks, for all processes forked after it was made.

    One check runs at a time; whoever waits for it finds its result. The oldest makes room for a new one.
    """

    def __init__(self) -> None:
        block = Block("cpuserve-crash-checks", 1, _Count, _Result, _ROWS)
        self._count, self._results, self._lock = block.head, block.rows, block.lock

    def check(self, file: ModelFile, checksum: str, settings: Settings, threads: int) -> None:
        """Load a version in a child, unless one has done so with the same files and settings.

        A model that the child refuses passes this check: the load in the worker then gives the reason.

        Args:
            file: the files as they will be loaded.
            checksum: of them.
            settings: as they will be loaded with.
            threads: as it will be loaded with.

        Raises:
            ModelLoadError: the child crashed, ended before its end, or took too long.
        """
        digest = hashlib.sha256(repr((file.name, checksum, settings, threads)).encode()).digest()
        with self._lock:
            ended_by = self._find(digest)
            if ended_by is None:
                ended_by = _try(file, settings, threads)
                self._add(digest, ended_by)
        if ended_by != _GOOD:
            raise ModelLoadError(
                f"OpenVINO crashed ({signal.Signals(ended_by).name}) while a child process read and compiled "
                f"{file.name}/{file.version}; make its files again (setting check_models_in_child)"
            )

    def _find(self, digest: bytes) -> int | None:
        return next((result.ended_by for result in self._results if result.digest == digest), None)

    def _add(self, digest: bytes, ended_by: int) -> None:
        result = self._results[self._count.tried % _ROWS]
        result.digest[:], result.ended_by = digest, ended_by
        self._count.tried += 1


def _try(file: ModelFile, settings: Settings, threads: int) -> int:
    """Load a version in a child process; returns the signal of the fault that ended it, or 0.

    Raises:
        ModelLoadError: the child took too long, or something else than the model ended it.
    """
    limit_s = settings.model_check_timeout_s
    try:
        done = subprocess.run(
            die_with_parent(sys.executable, "-m", "cpuserve.serving.crash_check_process"),
            input=pickle.dumps((file, settings, threads)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limit_s,
            start_new_session=True,  # Ctrl-C is for the server
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelLoadError(
            f"{file.name}/{file.version} was not compiled in a child process within {limit_s:g} s "
            "(setting model_check_timeout_s)"
        ) from error
    if not done.returncode:
        return _GOOD
    said = done.stderr.decode(errors="replace").strip()
    if said:
        _log.error("model %s version %d, in a child process: %s", file.name, file.version, said[-2000:])
    if -done.returncode in _FAULTS:
        return -done.returncode
    last = said.splitlines()[-1] if said else "it said nothing"
    ended = (
        f"by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"with {done.returncode}"
    )
    raise ModelLoadError(
        f"the child process that tried {file.name}/{file.version} was ended {ended}: {last} "
        "(setting check_models_in_child)"
    )
