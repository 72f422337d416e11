"""A file of JSON objects, one a line, to which a run appends what is done so that it can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError

__all__ = ["Journal"]


class Journal:
    """Keeps what is done, so that a killed run can be resumed.

    Attributes:
        file: where the lines are; made by the first `append`.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> list[dict[str, Any]]:
        """All complete lines.

        A line that a killed writer left incomplete is skipped.

        Raises:
            UsageError: a line is JSON and no object: the file is something else.
        """
        if not self.file.exists():
            return []
        records = []
        for number, line in enumerate(self.file.read_text(errors="replace").splitlines(), start=1):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if not isinstance(record, dict):
                raise UsageError(
                    f"{self.file}, line {number}: {line[:40]!r} is no object; choose another --out"
                )
            records.append(record)
        return records

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line and wait until it is on disk."""
        with self.file.open("ab+") as stream:
            if stream.tell() > 0:
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # torn: what follows is a line of its own
                    stream.write(b"\n")
            stream.write(json.dumps(record).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
