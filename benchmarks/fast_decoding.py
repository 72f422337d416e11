"""Counts the photos on which fast decoding of JPEG changes a classifier's answer, and how sure that was.

Run as ``python -m benchmarks.fast_decoding --data DIR [--out FILE] [--page FILE.md]``. DIR has ``models`` and
``images``. Each model is converted as `cpuserve convert` does and answers each JPEG of ``images`` in f32,
once with every pixel decoded and once with the decoder scaling down.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cpuserve
from cpuserve.authoring.catalog import CatalogEntry, CatalogFile, find, label_names
from cpuserve.authoring.convert import ConvertOrder, convert
from cpuserve.authoring.source import read_source
from cpuserve.measuring.results import write_result
from cpuserve.models.repository import Repository
from cpuserve.settings import load

__all__ = ["MODELS", "lines", "main", "measure"]

MODELS = (
    "mobilenet_v1_0.25_128_frozen",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v2_1.0_224_frozen",
    "mobilenet_v2_1.0_224_quant",
)
_JPEG = (".jpg", ".jpeg")


def main() -> None:
    """Measure all models, print the table and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--page", type=Path, help="Markdown with a place for the table")
    given = parser.parse_args()
    photos = sorted(file for file in (given.data / "images").iterdir() if file.suffix in _JPEG)
    rows = [measure(name, given.data / "models", photos) for name in MODELS]
    table = lines(rows)
    print("\n".join(table))  # noqa: T201
    if given.page:
        before, _, rest = given.page.read_text().partition("<!-- fast decoding -->\n")
        after = rest.partition("<!-- end -->")[2]
        given.page.write_text("\n".join([before + "<!-- fast decoding -->", *table, "<!-- end -->" + after]))
    if given.out:
        command = ["python", "-m", "benchmarks.fast_decoding", *sys.argv[1:]]
        write_result(given.out, command, {"precision": "f32", "models": rows})


def measure(name: str, models: Path, photos: Sequence[Path]) -> dict[str, Any]:
    """Answer photos by one model, with every pixel decoded and fast.

    Args:
        name: of a classifier in the catalogue.
        models: the directory of its file and of its labels.
        photos: JPEG files.

    Returns:
        A row a photo: the two answers; the margin between the best and the second class when every pixel is
        decoded; and how much the probability of that best class changes.
    """
    entry = find(name)
    with tempfile.TemporaryDirectory() as folder:
        labels = _labels(entry, models)
        order = ConvertOrder(name, replace(entry.card, labels=labels), parity=False)
        source = read_source(str(models / entry.source.file), {}, ())
        made, _ = convert(source, order, Repository(Path(folder)), load({}, environ={}), lambda _: None)
        exactly = _answers(made.xml, photos, "exact", len(labels))
        quickly = _answers(made.xml, photos, "fast", len(labels))
    rows = []
    for photo, exact, fast in zip(photos, exactly, quickly, strict=True):
        (best, sure), (_, second) = list(exact.items())[:2]
        rows.append(
            {
                "photo": photo.name,
                "exact": best,
                "fast": next(iter(fast)),
                "margin": round(sure - second, 4),
                "change": round(abs(fast[best] - sure), 4),
            }
        )
    return {"model": name, "photos": rows}


def _answers(
    model: Path, photos: Sequence[Path], decode: Literal["exact", "fast"], classes: int
) -> list[dict[str, float]]:
    """The probability of each class, best first, by its number and label."""
    with cpuserve.load(model, decode=decode, precision="f32") as loaded:
        return [
            {f"{each['class_id']} {each['label']}": each["probability"] for each in answer["predictions"]}
            for answer in (loaded.predict(photo, topk=classes) for photo in photos)
        ]


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table of a page."""
    table = [
        "| classifier, f32 | photos | other best class | margin of those | median margin of all "
        "| change of the best class's probability, median and most |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        photos = row["photos"]
        changed = [photo["margin"] for photo in photos if photo["exact"] != photo["fast"]]
        span = f"{min(changed):.3f} to {max(changed):.3f}" if changed else "-"
        moved = [photo["change"] for photo in photos]
        table.append(
            f"| {row['model']} | {len(photos)} | {len(changed)} | {span} "
            f"| {statistics.median(photo['margin'] for photo in photos):.3f} "
            f"| {statistics.median(moved):.3f}, {max(moved):.3f} |"
        )
    return table


def _labels(entry: CatalogEntry, models: Path) -> tuple[str, ...]:
    if isinstance(entry.labels, CatalogFile):
        return label_names((models / entry.labels.file).read_text(encoding="utf-8"))
    return entry.labels


if __name__ == "__main__":
    main()
