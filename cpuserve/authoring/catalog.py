"""The catalogue of models that `cpuserve pull` knows: where each file is and how to use it."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cpuserve.errors import UnknownCatalogEntry
from cpuserve.models.card import Card
from cpuserve.models.example_model import EXAMPLE
from cpuserve.models.quantisation import Dequantise

__all__ = ["CatalogEntry", "CatalogFile", "entries", "find", "known_names", "label_names"]

_CATALOG = Path(__file__).with_name("catalog.toml")


@dataclass(frozen=True)
class CatalogFile:
    """A file of the catalogue, which can be downloaded and verified.

    Attributes:
        file: its name in a mirror and in the cache.
        bytes: its size.
        sha256: its checksum, in hexadecimal.
        licence: its licence.
        url: where it is published, at a fixed commit; empty when only mirrors have it.
        mirror_only: why there is no URL.
    """

    file: str
    bytes: int
    sha256: str
    licence: str
    url: str = ""
    mirror_only: str = ""


@dataclass(frozen=True)
class CatalogEntry:
    """One model of the catalogue.

    Attributes:
        name: the name it is published under.
        aliases: other names `pull` understands.
        source: the model file.
        labels: names of the classes, or the file that lists them, one a line.
        input_shape: shape of the input, NHWC; -1 is any batch.
        output: how the integers of the output become real numbers; None when they are real or class ids.
        compress_to_fp16: store the weights as f16, which halves the file and keeps the answers.
        card: the card, without the labels.
    """

    name: str
    aliases: tuple[str, ...]
    source: CatalogFile
    labels: tuple[str, ...] | CatalogFile
    input_shape: tuple[int, ...]
    output: Dequantise | None
    compress_to_fp16: bool
    card: Card


@cache
def entries() -> dict[str, CatalogEntry]:
    """All models of the catalogue by name, in the order of the file."""
    table = tomllib.loads(_CATALOG.read_text(encoding="utf-8"))
    labels = {name: _labels(row) for name, row in table["labels"].items()}
    return {name: _entry(name, row, labels) for name, row in table["models"].items()}


def known_names() -> tuple[str, ...]:
    """Every name that `cpuserve pull` takes: those of models, their aliases, and the example's."""
    return (EXAMPLE, *(name for entry in entries().values() for name in (entry.name, *entry.aliases)))


def find(name: str) -> CatalogEntry:
    """Finds a model by its name or one of its aliases.

    Raises:
        UnknownCatalogEntry: there is none; the message has similar names.
    """
    known = {alias: entry for entry in entries().values() for alias in (entry.name, *entry.aliases)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name[:140], known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "cpuserve pull --list shows what it has"
    raise UnknownCatalogEntry(f"the catalogue has no model {name[:140]!r}; {hint}")


def label_names(text: str) -> tuple[str, ...]:
    """Reads a file of labels, one class a line; a comma ends the name."""
    return tuple(line.split(",")[0].strip() for line in text.splitlines())


def _labels(row: dict[str, Any]) -> tuple[str, ...] | CatalogFile:
    return tuple(row["names"]) if "names" in row else CatalogFile(**row)


def _entry(name: str, row: dict[str, Any], labels: dict[str, tuple[str, ...] | CatalogFile]) -> CatalogEntry:
    source = CatalogFile(**{key: row.pop(key) for key in CatalogFile.__dataclass_fields__ if key in row})
    output = row.pop("output", None)
    labels_name = row.pop("labels")
    input_shape = tuple(row.pop("input_shape"))
    aliases = tuple(row.pop("aliases", ()))
    compress_to_fp16 = row.pop("compress_to_fp16", False)
    # The rest are fields of the card; an unknown word fails here, and in the tests.
    said: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    said |= {"licence": source.licence, "source": source.url or source.mirror_only, "layout": "NHWC"}
    return CatalogEntry(
        name=name,
        aliases=aliases,
        source=source,
        labels=labels[labels_name],
        input_shape=input_shape,
        output=Dequantise(**output) if output else None,
        compress_to_fp16=compress_to_fp16,
        card=Card(**said),
    )
