"""Tables of the networks' figures, alone or beside another machine's."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuserve.bench.networks import NetworkRow
from cpuserve.errors import UsageError

__all__ = [
    "Comparison",
    "SavedTable",
    "compare",
    "comparison_csv",
    "comparison_markdown",
    "csv_text",
    "markdown",
]

_NEEDED = ("network", "precision", "batch", "ms_per_image")
_COLUMNS = ("machine", *_NEEDED, "spread_ms", "gmacs_per_s", "peak_mib", "foreign_cores", "skipped")


@dataclass(frozen=True)
class SavedTable:
    """A table of another machine, or of this one at another time.

    Attributes:
        name: name of the machine, else of the file.
        ms: ms an image, by network, precision and batch.
    """

    name: str
    ms: Mapping[tuple[str, str, int], float]

    @classmethod
    def read(cls, file: Path) -> SavedTable:
        """Read a CSV file that `csv_text` made.

        Any other will do that has the columns network, precision, batch and ms_per_image.

        Raises:
            UsageError: it cannot be read, has no such columns, no figures, or a figure that is no number.
        """
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--compare {file}: {error}") from error
        reader = csv.DictReader(io.StringIO(text))
        missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(
                f"--compare {file}: no column {', '.join(missing)}; --out DIR writes such a table.csv"
            )
        ms, machines = {}, set()
        for line in reader:
            if not line["ms_per_image"]:
                continue
            try:
                value, batch = float(line["ms_per_image"]), int(line["batch"])
            except (TypeError, ValueError) as error:
                raise UsageError(f"--compare {file}, line {reader.line_num}: {error}") from error
            if not value > 0:
                raise UsageError(f"--compare {file}, line {reader.line_num}: {value} ms is not more than 0")
            ms[line["network"], line["precision"], batch] = value
            machines.add(line.get("machine") or file.stem)
        if not ms:
            raise UsageError(f"--compare {file}: it has no figures")
        return cls(" + ".join(sorted(machines)), ms)


@dataclass(frozen=True)
class Comparison:
    """A figure of this machine beside the other's.

    Attributes:
        cell: network, precision and batch.
        this_ms: ms an image here.
        other_ms: ms an image there.
        ratio: how many times as fast this machine is.
    """

    cell: tuple[str, str, int]
    this_ms: float
    other_ms: float

    @property
    def ratio(self) -> float:
        """The other's time / this one's."""
        return self.other_ms / self.this_ms


def compare(rows: Sequence[NetworkRow], other: SavedTable) -> list[Comparison]:
    """The figures that both machines have."""
    return [
        Comparison(row.cell, row.ms_per_image, other.ms[row.cell])
        for row in rows
        if row.ms_per_image is not None and row.cell in other.ms
    ]


def csv_text(rows: Sequence[NetworkRow], machine: str) -> str:
    """A line a figure; a skipped one has no ms_per_image and says why."""
    lines = [
        (
            machine,
            *row.cell,
            *(
                ("", "", "", "", "", row.skipped)
                if row.ms_per_image is None
                else (
                    f"{row.ms_per_image:.4f}",
                    f"{row.spread_ms:.4f}",
                    f"{1000 * row.gmacs / row.ms_per_image:.2f}",
                    row.peak_mib,
                    f"{row.foreign_cores:.2f}",
                    "",
                )
            ),
        )
        for row in rows
    ]
    return _csv(_COLUMNS, lines)


def markdown(rows: Sequence[NetworkRow], machine: str, passes: int) -> str:
    """A table a precision: batches down, networks across, as the report that the networks are from."""
    networks = list(dict.fromkeys(row.network for row in rows))
    batches = sorted({row.batch for row in rows})
    by_cell = {row.cell: row for row in rows}
    parts = []
    for precision in dict.fromkeys(row.precision for row in rows):
        mine = [row for row in rows if row.precision == precision]
        parts += [
            f"### {precision}, ms an image, mean of {passes} passes ± standard deviation ({machine})",
            "",
        ]
        if any(row.ms_per_image is not None for row in mine):
            parts += [_line(["batch", *networks]), _line([":---:"] * (len(networks) + 1))]
            for batch in batches:
                shown = (_shown(by_cell[name, precision, batch]) for name in networks)
                parts.append(_line([str(batch), *shown]))
            parts.append("")
            parts.append(f"- meanwhile other processes used {_foreign(mine)} cores")
        parts += [*(f"- x: {note}" for note in _notes(mine)), ""]
    return "\n".join(parts)


def comparison_markdown(found: Sequence[Comparison], this: str, other: str) -> str:
    """Two columns and their ratio."""
    lines = [
        _line(["network", "precision", "batch", f"{this}, ms", f"{other}, ms", "times as fast"]),
        _line(["---", "---", "---:", "---:", "---:", "---:"]),
    ]
    for one in found:
        figures = f"{one.this_ms:.3g}", f"{one.other_ms:.3g}", f"{one.ratio:.2f}"
        lines.append(_line([*map(str, one.cell), *figures]))
    return "\n".join(lines) + "\n"


def comparison_csv(found: Sequence[Comparison], this: str, other: str) -> str:
    """The same for a program."""
    lines = [(*one.cell, f"{one.this_ms:.4f}", f"{one.other_ms:.4f}", f"{one.ratio:.4f}") for one in found]
    return _csv(("network", "precision", "batch", this, other, "ratio"), lines)


def _shown(row: NetworkRow) -> str:
    return "x" if row.ms_per_image is None else f"{row.ms_per_image:.3g} ± {row.spread_ms:.2g}"


def _foreign(rows: Sequence[NetworkRow]) -> str:
    cores = [row.foreign_cores for row in rows if row.ms_per_image is not None]
    return f"{min(cores):.2f} to {max(cores):.2f}"


def _notes(rows: Sequence[NetworkRow]) -> list[str]:
    """The reasons for what was skipped, each with the networks and batches that it holds for."""
    skipped: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row.skipped:
            skipped.setdefault(row.skipped, {}).setdefault(row.network, []).append(str(row.batch))
    every = {row.network for row in rows}
    notes = []
    for reason, cells in skipped.items():
        if sum(map(len, cells.values())) == len(rows):
            notes.append(f"all: {reason}")
        elif len(set(map(tuple, cells.values()))) == 1 and set(cells) == every:
            notes.append(f"batch {', '.join(next(iter(cells.values())))}: {reason}")
        else:
            notes += [f"{name}, batch {', '.join(batches)}: {reason}" for name, batches in cells.items()]
    return notes


def _line(words: Sequence[str]) -> str:
    return f"| {' | '.join(words)} |"


def _csv(columns: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return stream.getvalue()
