"""`cpuserve models`: lists the models of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from cpuserve.cli.console import show_table
from cpuserve.cli.options import json_option, setting_options, settings_from
from cpuserve.models.listing import list_models
from cpuserve.models.repository import Repository

__all__ = ["command"]


@click.command("models")
@json_option("Print a JSON array with an object for each model.")
@setting_options("model_repository")
def command(as_json: bool, config: Path | None, **flags: Any) -> None:
    """List the models of the repository, with the type, input and licence of the latest version of each.

    \b
    Example:
      cpuserve models
      cpuserve models --json --model-repository /srv/models
    """
    repository = Repository(settings_from(config, flags).model_repository)
    rows = list_models(repository, _read_other)
    if as_json:
        click.echo(orjson.dumps(rows))
    else:
        _show(repository.root, rows)


def _read_other(file: Path) -> dict[str, Any]:
    """The row of a model that is not an IR, with OpenVINO, as it would be served."""
    from cpuserve.models.card import Card  # noqa: PLC0415  # not for IRs
    from cpuserve.serving.graph import image_input, names_of  # noqa: PLC0415
    from cpuserve.serving.loader import read  # noqa: PLC0415
    from cpuserve.serving.openvino_core import openvino_core  # noqa: PLC0415

    model = read(openvino_core(), file)
    card = Card.read(model)
    source = image_input(model, card)
    inputs = [
        {
            "name": names_of(port)[0],
            "type": port.element_type.get_type_name(),
            "shape": [side.get_length() if side.is_static else -1 for side in port.partial_shape],
        }
        for port in model.inputs
    ]
    return {
        "model_type": card.model_type,
        "inputs": inputs,
        "pictures": None if source is None else card.pixels(source.channels),
        "labels": len(card.labels),
        "licence": card.licence,
        "description": card.description or f"read from {file.name} at each start",
    }


def _show(root: Path, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table  # noqa: PLC0415  # not for --help and --json

    if not rows:
        click.echo(f"no models in {root}; cpuserve pull --list shows the catalogue")
        return
    aliases = ("aliases",) if any(row["aliases"] for row in rows) else ()
    table = Table(
        *("name", *aliases, "versions"),
        *("type", "input", "pictures", "decode", "labels", "MB", "licence", "description"),
    )
    table.columns[-4].justify = table.columns[-3].justify = "right"
    for row in rows:
        inputs = " ".join(f"{port['type']}{port['shape']}".replace(" ", "") for port in row["inputs"])
        table.add_row(
            row["name"],
            *([" ".join(row["aliases"])] if aliases else []),
            " ".join(map(str, row["versions"])),
            _answers(row),
            inputs,
            row["pictures"] or "",
            row["decode"] or "the server's",
            str(row["labels"] or ""),
            f"{row['bytes'] / 1e6:.1f}",
            row["licence"],
            row["description"] if row["error"] is None else f"cannot be read: {row['error']}",
        )
    show_table(table)


def _answers(row: dict[str, Any]) -> str:
    """The model type, and by which evidence it was judged or is not known."""
    if not row["evidence"]:
        return str(row["model_type"])
    return f"{row['model_type'] or 'tensors only'} ({row['evidence']})"
