"""Copies the files of a model once they no longer change, so that the load reads what was checked.

The private copy lies among the temporary files and is removed after the load.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from cpuserve.errors import ModelChanging, ModelLoadError
from cpuserve.models.directories import try_lock
from cpuserve.models.model_files import Signature, signature_of
from cpuserve.models.repository import ModelFile
from cpuserve.models.warm_up_files import watched_files_of

__all__ = ["ModelSnapshot", "remove_abandoned", "snapshot"]

_PREFIX = "cpuserve-model-"
_PIECE = 1 << 20
_OTHER_ROOTS = (Path("/dev/shm"),)  # noqa: S108  # folders in it are made as mkdtemp makes them


@dataclass(frozen=True)
class ModelSnapshot:
    """Files of a version that did not change while they were read.

    Attributes:
        file: what to load: the private copy, or the repository's own file.
        checksum: SHA-256 of the list that ``sha256sum`` prints for the files.
    """

    file: ModelFile
    checksum: str


@contextmanager
def snapshot(file: ModelFile, *, settle_s: float, copy: bool = True) -> Iterator[ModelSnapshot]:
    """Read the files of a version whole; the copy exists as long as the context.

    Warm-up files have to be unchanged too, but are neither copied nor part of the checksum: replicas with and
    without them serve the same model.

    Args:
        file: the version.
        settle_s: how long its files have to be unchanged; it is waited for.
        copy: make a private copy; otherwise the files are only read, before and after the body.

    Raises:
        ModelChanging: a file changed while it was read or less than ``settle_s`` before.
        ModelLoadError: a file cannot be read, lies outside of the version's directory, or there is no room.
    """
    before = _still(file, settle_s)
    if not copy:
        checksum = _read(file, None)
        _hold(file, before)
        yield ModelSnapshot(file, checksum)
        if _read(file, None) != checksum:
            raise _changing(file)
        return
    with _folder(file) as folder:
        checksum = _read(file, folder)
        _hold(file, before)
        yield ModelSnapshot(replace(file, xml=folder / file.xml.name), checksum)


def _still(file: ModelFile, settle_s: float) -> Signature:
    """The signature of files that did not change for ``settle_s`` seconds.

    The kernel's time of change counts, which no copy that keeps dates can set.
    """
    signature = signature_of(watched_files_of(file.xml))
    changed = 0.0
    for path in watched_files_of(file.xml):
        try:
            changed = max(changed, path.stat().st_ctime)
        except OSError as error:
            raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
    since_s = time.time() - changed
    if since_s < settle_s:
        time.sleep(
            min(settle_s, settle_s - since_s)
        )  # at most the whole time, should the clock have been set back
        _hold(file, signature)
    return signature


def _hold(file: ModelFile, before: Signature) -> None:
    if signature_of(watched_files_of(file.xml)) != before:
        raise _changing(file)


def _changing(file: ModelFile) -> ModelChanging:
    return ModelChanging(
        f"{file.xml.parent} changes while it is read: it is loaded once its files no longer change; "
        "a version that is renamed into place is taken at once"
    )


def _read(file: ModelFile, to: Path | None) -> str:
    """The checksum of a version's files, which are also written to a folder."""
    home = file.xml.parent
    sums = []
    for path in file.files:
        name = path.relative_to(home)
        target = None if to is None else to / name
        try:
            if target is None:
                found = _sum(path, None)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as output:
                    found = _sum(path, output)
        except OSError as error:
            if target is not None and error.filename != str(path):
                raise _no_room(file, target, error) from error
            raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
        sums.append(f"{found}  {name}\n")
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def _sum(path: Path, output: BinaryIO | None) -> str:
    found = hashlib.sha256()
    with path.open("rb") as data:
        while piece := data.read(_PIECE):
            found.update(piece)
            if output is not None:
                output.write(piece)
    return found.hexdigest()


def _no_room(file: ModelFile, target: Path, error: OSError) -> ModelLoadError:
    return ModelLoadError(
        f"no private copy of {file.name}/{file.version} can be made below {target.parent}: {error.strerror}; "
        "TMPDIR names another place, and `enable_mmap` loads the files where they are"
    )


@contextmanager
def _folder(file: ModelFile) -> Iterator[Path]:
    """A folder that is removed after the context; a lock on it shows that its owner lives."""
    root = _roomy(sum(path.stat().st_size for path in file.files if path.is_file()))
    try:
        remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))
        lock = try_lock(folder)
    except OSError as error:
        raise _no_room(file, root / _PREFIX, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _roots() -> list[Path]:
    """Where copies may lie: the directory of temporary files, where there is one, and shared memory.

    A container whose root is read-only often has no directory of temporary files.
    """
    try:
        found = [Path(tempfile.gettempdir())]
    except FileNotFoundError:
        found = []
    return [*found, *(root for root in _OTHER_ROOTS if os.access(root, os.W_OK))]


def _roomy(size: int) -> Path:
    """The first place with room for so many bytes; the first of all, for the message, where none has."""
    roots = _roots()
    for root in roots:
        try:
            if shutil.disk_usage(root).free > size:
                return root
        except OSError:
            continue  # it is gone: another may do
    return roots[0] if roots else Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108  # only named, not written


def remove_abandoned(pid: int | None = None) -> None:
    """Remove the copies of processes that have ended without doing so, whose locks the kernel has freed.

    Args:
        pid: of a process that has ended; None for any.
    """
    pattern = f"{_PREFIX}{'' if pid is None else f'{pid}-'}*"
    for left in (found for root in _roots() for found in root.glob(pattern)):
        try:
            lock = try_lock(left)
        except OSError:
            continue  # another user's
        if lock is None:
            continue
        try:
            # a newer one of a living process is about to be locked by it
            if pid is not None or time.time() - os.fstat(lock).st_ctime > 1:
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)
