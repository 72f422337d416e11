"""The folder of a job: takes rows, and makes shards of them that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from cpuserve.batch.atomic_files import write_whole
from cpuserve.batch.manifest import BatchManifest, ShardEntry
from cpuserve.batch.shard_formats import ShardFormat, write_shard
from cpuserve.batch.shard_journal import ShardJournal
from cpuserve.batch.work_units import WorkUnit
from cpuserve.errors import CpuserveError, UsageError
from cpuserve.models.directories import try_lock
from cpuserve.video.outputs.journal import cannot_write

__all__ = ["JobFolder"]

_SCRATCH = ".unfinished"


class JobFolder:
    """The folder that a job writes; one job at a time has it. A context manager.

    Rows are appended to a journal for each shard as they come, so that a run that is killed loses none of
    those that it has written. A shard whose rows are all there is written in order, flushed to the disk,
    renamed to its name, entered into the manifest, and only then its journal is removed.

    Attributes:
        manifest: what is done.
        rows_before: rows that an earlier run left.

    Args:
        manifest: what is asked.
        units: of the job, in order.
        as_format: of the shards.
        overwrite: begin anew where an earlier job was.

    Raises:
        UsageError: another job is in the folder, or something else.
        CpuserveError: another process works in it, or it cannot be written.
    """

    def __init__(
        self,
        manifest: BatchManifest,
        units: Sequence[WorkUnit],
        as_format: ShardFormat,
        *,
        overwrite: bool = False,
    ) -> None:
        self.manifest = manifest
        self._format = as_format
        self._folder, self._scratch = manifest.folder, manifest.folder / _SCRATCH
        self._units = {shard: [*group] for shard, group in groupby(units, lambda unit: unit.shard)}
        self._journals: dict[int, ShardJournal] = {}
        self._lock: int | None = _locked(self._folder)
        try:
            self._open(overwrite=overwrite)
            self.rows_before = sum(shard.rows for shard in manifest.shards.values()) + sum(
                journal.rows for journal in self._journals.values()
            )
            for shard in [number for number, journal in self._journals.items() if journal.whole]:
                self._finish(shard)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave everything as it is, so that a later run can go on.

        Raises:
            CpuserveError: what is in memory cannot be written.
        """
        try:
            for journal in self._journals.values():
                journal.close()
        finally:
            self._journals = {}
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def left(self) -> list[WorkUnit]:
        """The units whose rows are missing, in order, and of each the part that is."""
        left: list[WorkUnit] = []
        for shard, units in self._units.items():
            if shard in self.manifest.shards:
                continue
            journal = self._journals.get(shard)
            parts = units if journal is None else [journal.left(unit) for unit in units]
            left += [part for part in parts if part is not None]
        return left

    def part_left(self, unit: WorkUnit) -> WorkUnit | None:
        """The part of a unit whose rows are missing; None where none is."""
        return None if unit.shard in self.manifest.shards else self._journal(unit.shard).left(unit)

    def add(self, unit: WorkUnit, index: int, row: bytes) -> bool:
        """Keep a row; see `ShardJournal.add`."""
        if unit.shard in self.manifest.shards:
            return False
        journal = self._journal(unit.shard)
        added = journal.add(unit.number, index, row)
        if journal.whole:
            self._finish(unit.shard)
        return added

    def end(self, unit: WorkUnit) -> None:
        """Note that a unit has all its rows; see `ShardJournal.end`."""
        if unit.shard in self.manifest.shards:
            return
        journal = self._journal(unit.shard)
        journal.end(unit.number)
        if journal.whole:
            self._finish(unit.shard)

    def computed_in(self, precision: str) -> None:
        """Note the precision of the first worker, which then is that of all.

        Raises:
            CpuserveError: the manifest cannot be written.
        """
        if not self.manifest.precision:
            self.manifest.precision = precision
            self.manifest.save(self._scratch)

    def complete(self) -> None:
        """Note in the manifest that the job is done.

        Raises:
            CpuserveError: rows are missing, or it cannot be written.
        """
        if missing := [*{*self._units} - {*self.manifest.shards}]:
            raise CpuserveError(f"shards {missing[:5]} are not whole: the job is not done")
        self.manifest.complete = True
        self.manifest.save(self._scratch)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _open(self, *, overwrite: bool) -> None:
        known = self.manifest.path.exists()
        others = [path.name for path in self._folder.iterdir() if path.name != _SCRATCH]
        if others and not known:
            raise UsageError(
                f"{self._folder} has files but no manifest.json: give a folder (-o) that is empty "
                "or not there"
            )
        try:
            if known and overwrite:
                self._remove_earlier()
                known = False
            self._scratch.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        if known:
            self.manifest.take_over()
            self._take_journals()
        else:
            shutil.rmtree(self._scratch)  # of a run that was killed before it had a manifest
            self._scratch.mkdir()
            self.manifest.begin(self._scratch)

    def _take_journals(self) -> None:
        """Open the journals of an earlier run. That of a shard in the manifest was about to be removed."""
        for path in self._scratch.glob("shard-*.rows"):
            shard = int(path.stem.removeprefix("shard-"))
            if shard in self.manifest.shards or shard not in self._units:
                path.unlink()
            else:
                self._journal(shard)

    def _remove_earlier(self) -> None:
        """Remove the files of an earlier job, the manifest first, and no others."""
        self.manifest.path.unlink()
        for path in self._folder.glob("shard-[0-9]*"):
            path.unlink()
        (self._folder / "inputs.jsonl").unlink(missing_ok=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _journal(self, shard: int) -> ShardJournal:
        if shard not in self._journals:
            path = self._scratch / f"shard-{shard:05}.rows"
            self._journals[shard] = ShardJournal(path, self._units[shard])
        return self._journals[shard]

    def _finish(self, shard: int) -> None:
        journal = self._journals[shard]
        path = self._folder / f"shard-{shard:05}.{self._format}"
        counts = {"rows": 0, "errors": 0}

        def counted() -> Any:
            for row in journal.in_order():
                counts["rows"] += 1
                counts["errors"] += "error" in row
                yield row

        facts = {name: str(value) for name, value in self.manifest.model.items()}
        write = partial(write_shard, counted(), as_format=self._format, facts=facts)
        found = write_whole(path, lambda target: write(path=target), self._scratch)
        self.manifest.shards[shard] = ShardEntry(path.name, counts["rows"], counts["errors"], *found)
        self.manifest.save(self._scratch)
        del self._journals[shard]
        journal.remove()


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    lock = try_lock(folder)
    if lock is None:
        raise CpuserveError(f"another process works on the job in {folder}: wait for it, or end it")
    return lock
