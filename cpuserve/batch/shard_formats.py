"""Writes the rows of a shard as JSON lines or as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import orjson

from cpuserve.video.outputs.columns import COLUMNS, rows_of
from cpuserve.video.outputs.tables import check_pyarrow

__all__ = ["FORMATS", "ShardFormat", "check_format", "write_shard"]

ShardFormat = Literal["jsonl", "parquet"]
FORMATS: tuple[ShardFormat, ...] = ("jsonl", "parquet")
_FOUND = ("class_id", "label", "score", "area", "left", "top", "right", "bottom", "x", "y")
_ROW_GROUP = 8192
_FRAME = ("frame", "pts", "time_s")

_Row = Mapping[str, Any]


def check_format(as_format: ShardFormat) -> None:
    """Refuse a format whose library is missing.

    Raises:
        MissingExtra: it is.
    """
    if as_format == "parquet":
        check_pyarrow()


def write_shard(rows: Iterable[_Row], path: Path, as_format: ShardFormat, facts: Mapping[str, str]) -> None:
    """Write the rows of a shard.

    Args:
        rows: in order.
        path: the file.
        as_format: ``jsonl`` writes each row as it is; in ``parquet`` each has the columns of
            docs/batch.md, with what was found as a list.
        facts: go into the metadata of a Parquet file.

    Raises:
        OSError: it cannot be written.
    """
    if as_format == "jsonl":
        with path.open("wb") as file:
            file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        return
    import pyarrow as pa  # noqa: PLC0415  # of an extra
    from pyarrow import parquet  # noqa: PLC0415

    found = pa.struct([pa.field(name, pa.type_for_alias(COLUMNS[name].kind)) for name in _FOUND])
    kinds = {"input": pa.string(), **{name: pa.type_for_alias(COLUMNS[name].kind) for name in _FRAME}}
    kinds |= {"error": pa.string(), "count": pa.int32(), "found": pa.list_(found)}
    schema = pa.schema(kinds.items(), metadata={f"cpuserve.{name}": text for name, text in facts.items()})
    lines = iter(rows)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := [_columns(row) for row in islice(lines, _ROW_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema))


def _columns(row: _Row) -> dict[str, Any]:
    """The values of one row of Parquet."""
    head = {"input": row["input"], **{name: row.get(name) for name in _FRAME}}
    if "error" in row:
        return {**head, "error": row["error"], "count": 0, "found": []}
    things = [
        {name: thing[name] for name in _FOUND}
        for thing in rows_of({"video": row["input"], **head, **row})
        if thing["index"] is not None
    ]
    return {**head, "error": None, "count": len(things), "found": things}
