"""Makes CSV and Parquet files of the lines of a journal."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from cpuserve.errors import MissingExtra
from cpuserve.video.outputs.columns import COLUMNS, rows_of
from cpuserve.video.outputs.journal import cannot_write

__all__ = ["CsvRows", "check_pyarrow", "write_csv", "write_parquet"]

_ROW_GROUP = 65_536

Line = Mapping[str, Any]


class CsvRows:
    """Writes the rows of frames as they come.

    Args:
        file: takes the text; the header is written at once.
    """

    def __init__(self, file: IO[str]) -> None:
        # Python quotes those ends of lines alone that the writer has itself
        self._writer = csv.DictWriter(_UnixLines(file), [*COLUMNS], lineterminator="\r\n")
        self._writer.writeheader()

    def append(self, line: Line) -> None:
        """Write the rows of one frame."""
        self._writer.writerows(rows_of(line))


class _UnixLines:
    """Takes rows that end with carriage return and line feed, and writes them with the latter."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, row: str) -> int:
        """Write one row."""
        return self._file.write(row.removesuffix("\r\n") + "\n")


def write_csv(lines: Iterable[Line], path: Path) -> None:
    """Write a CSV file, which is there whole or not at all.

    Raises:
        CpuserveError: it cannot be written.
    """
    partial = _partial(path)
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            rows = CsvRows(file)
            for line in lines:
                rows.append(line)
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_parquet(lines: Iterable[Line], path: Path, facts: Mapping[str, str]) -> None:
    """Write a Parquet file, which is there whole or not at all.

    Args:
        lines: of the frames.
        path: the file.
        facts: go into the metadata of the file.

    Raises:
        CpuserveError: it cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    check_pyarrow()
    import pyarrow as pa  # noqa: PLC0415  # of an extra
    from pyarrow import parquet  # noqa: PLC0415

    schema = pa.schema(
        [pa.field(name, pa.type_for_alias(column.kind)) for name, column in COLUMNS.items()],
        metadata={f"cpuserve.{name}": value for name, value in facts.items()},
    )
    partial, rows = _partial(path), chain.from_iterable(map(rows_of, lines))
    try:
        with parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
            while group := [*islice(rows, _ROW_GROUP)]:
                writer.write_table(pa.Table.from_pylist(group, schema))
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def check_pyarrow() -> None:
    """Refuse Parquet where the library that writes it is missing.

    Raises:
        MissingExtra: it is.
    """
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415  # of an extra
    except ImportError as error:
        raise MissingExtra("Parquet files need pyarrow", "parquet") from error


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
