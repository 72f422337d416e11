"""The manifest of a job: what was asked of which model, and which shards are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson

from cpuserve.batch.atomic_files import write_whole
from cpuserve.batch.sources import BatchInput
from cpuserve.errors import CpuserveError, UsageError
from cpuserve.machine.files import text_of_path

__all__ = ["BatchManifest", "ShardEntry"]

INPUT_LIST = "inputs.jsonl"
MANIFEST = "manifest.json"
_SHOWN = 120


@dataclass(frozen=True)
class ShardEntry:
    """A shard that is done.

    Attributes:
        file: its name.
        rows: how many it has.
        errors: how many of these say why a picture or frame has no answer.
        size: bytes.
        sha256: of its content.
    """

    file: str
    rows: int
    errors: int
    size: int
    sha256: str


@dataclass
class BatchManifest:
    """What a job was asked for and what is done; kept in ``manifest.json``, the inputs in ``inputs.jsonl``.

    Attributes:
        folder: of the job.
        model: name, version and checksum of the model.
        settings: what decides the rows besides.
        inputs: in the order of the rows.
        shards: that are done, by number.
        complete: whether all are.
        precision: that the workers compute in; empty before the first row.
    """

    folder: Path
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    inputs: Sequence[BatchInput]
    shards: dict[int, ShardEntry] = field(default_factory=dict)
    complete: bool = False
    precision: str = ""

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / MANIFEST

    def begin(self, scratch: Path) -> None:
        """Write the list of inputs and a manifest without shards.

        Raises:
            CpuserveError: they cannot be written.
        """
        write_whole(self.folder / INPUT_LIST, self._write_inputs, scratch)
        self.save(scratch)

    def save(self, scratch: Path) -> None:
        """Write the manifest.

        Raises:
            CpuserveError: it cannot be written.
        """
        content = orjson.dumps(self.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        write_whole(self.path, lambda path: _write(path, content), scratch)

    def as_json(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        shards = [self.shards[number] for number in sorted(self.shards)]
        return {
            "model": dict(self.model),
            "precision": self.precision,
            "settings": dict(self.settings),
            "inputs": {
                "file": INPUT_LIST,
                "pictures": sum(not one.is_video for one in self.inputs),
                "videos": sum(one.is_video for one in self.inputs),
            },
            "complete": self.complete,
            "rows": sum(shard.rows for shard in shards),
            "errors": sum(shard.errors for shard in shards),
            "shards": [
                {
                    "file": shard.file,
                    "rows": shard.rows,
                    "errors": shard.errors,
                    "bytes": shard.size,
                    "sha256": shard.sha256,
                }
                for shard in shards
            ],
        }

    def take_over(self) -> None:
        """Take over the shards of an earlier run of the same job; those whose files are gone are left out.

        Raises:
            UsageError: the manifest is of another model, other settings or other inputs.
            CpuserveError: it cannot be read.
        """
        try:
            content = orjson.loads(self.path.read_bytes())
            before = {"model": content["model"], "settings": content["settings"]}
            shards = [
                ShardEntry(one["file"], one["rows"], one["errors"], one["bytes"], one["sha256"])
                for one in content["shards"]
            ]
            numbers = [int(Path(shard.file).stem.removeprefix("shard-")) for shard in shards]
        except OSError as error:
            raise CpuserveError(f"{self.path} cannot be read: {error.strerror}") from error
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise CpuserveError(f"{self.path} is no manifest of a job ({error!r}): {_ELSEWHERE}") from error
        now = {"model": self.model, "settings": self.settings}
        for part, values in now.items():
            self._compare(part, before[part], orjson.loads(orjson.dumps(values)))
        self._compare_inputs()
        self.shards = {
            number: shard
            for number, shard in zip(numbers, shards, strict=True)
            if _size_of(self.folder / shard.file) == shard.size
        }
        self.precision = str(content.get("precision", ""))
        self.complete = bool(content.get("complete")) and len(self.shards) == len(shards)

    def _compare(self, part: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                what = f"the model's {name}" if part == "model" else name
                raise UsageError(
                    f"{what} was {_short(before.get(name))} in the job of {self.path} and is "
                    f"{_short(now.get(name))} now: ask for the same, {_ELSEWHERE}"
                )

    def _compare_inputs(self) -> None:
        path = self.folder / INPUT_LIST
        try:
            with path.open("rb") as file:
                for number, (before, now) in enumerate(zip_longest(file, self.inputs)):
                    written = b"" if now is None else _input_line(now)
                    if before != written:
                        raise UsageError(
                            f"the inputs are not those of the job in {self.folder}: input {number} was "
                            f"{_named(before)} and is {_named(written)} now: give the same, {_ELSEWHERE}"
                        )
        except OSError as error:
            raise CpuserveError(f"{path} cannot be read: {error.strerror}") from error

    def _write_inputs(self, path: Path) -> None:
        with path.open("wb") as file:
            file.writelines(map(_input_line, self.inputs))


_ELSEWHERE = "choose another folder (-o), or start anew with --overwrite"


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _input_line(one: BatchInput) -> bytes:
    kind = "video" if one.is_video else "picture"
    facts = {"input": text_of_path(one.uri), "kind": kind, "bytes": one.size, "changed_ns": one.changed_ns}
    return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE)


def _named(line: bytes | None) -> str:
    if not line:
        return "none"
    try:
        facts = orjson.loads(line)
        return f"{facts['input']} ({facts['bytes']} bytes, changed at {facts['changed_ns'] / 1e9:.3f} s)"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "a damaged line"


def _short(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
