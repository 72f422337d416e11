"""`cpuserve models`: what the repository holds, read from the XML of each IR; OpenVINO is not loaded."""

from __future__ import annotations

# The files are those that OpenVINO is given to run: a repository that is not trusted is lost before this.
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import click
import orjson

from cpuserve.cli.console import table_console
from cpuserve.cli.options import setting_options, settings_from
from cpuserve.errors import ModelLoadError, RepositoryError
from cpuserve.models.card import MODEL_INFO, OWN, Card
from cpuserve.models.repository import ModelFile, Repository

__all__ = ["command", "describe"]


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, one object a model.")
@setting_options("model_repository")
def command(as_json: bool, config: Path | None, **flags: Any) -> None:
    """List the models of the repository, with what the latest version of each says of itself.

    \b
    Example:
      cpuserve models
      cpuserve models --json --model-repository /srv/models
    """
    repository = Repository(settings_from(config, flags).model_repository)
    if not repository.root.is_dir():
        raise RepositoryError(f"no model repository {repository.root}: --model-repository names another")
    rows = []
    for name in repository.names():
        versions = repository.versions(name)
        rows.append({"name": name, "versions": versions} | describe(repository.find(name, versions[-1])))
    if as_json:
        click.echo(orjson.dumps(rows))
    else:
        _show(repository.root, rows)


def describe(file: ModelFile) -> dict[str, Any]:
    """What an IR says of itself; the key ``error`` says why it cannot be read, else it is None."""
    said: dict[str, Any] = {
        "model_type": "",
        "inputs": [],
        "labels": 0,
        "licence": "",
        "description": "",
        "bytes": 0,
        "path": str(file.xml),
        "error": None,
    }
    try:
        said["bytes"] = sum(part.stat().st_size for part in (file.xml, file.xml.with_suffix(".bin")))
        net = ET.parse(file.xml).getroot()  # noqa: S314 - see the import
        info = net.find("rt_info")
        card = Card.from_sections(_section(info, MODEL_INFO), _section(info, OWN))
    except (ET.ParseError, ModelLoadError, OSError) as error:
        return said | {"error": str(error)}
    inputs = [_input(layer) for layer in net.iterfind("layers/layer[@type='Parameter']")]
    return said | {
        "model_type": card.model_type,
        "inputs": inputs,
        "labels": len(card.labels),
        "licence": card.licence,
        "description": card.description,
    }


def _section(info: ET.Element | None, name: str) -> dict[str, str]:
    found = None if info is None else info.find(name)
    return {} if found is None else {key.tag: key.get("value", "") for key in found}


def _input(layer: ET.Element) -> dict[str, Any]:
    data, port = layer.find("data"), layer.find("output/port")
    sides = (data.get("shape", "") if data is not None else "").split(",")
    return {
        "name": (port.get("names") if port is not None else None) or layer.get("name", ""),
        "type": data.get("element_type", "") if data is not None else "",
        "shape": [int(side) if side.isdigit() else -1 for side in sides if side],
    }


def _show(root: Path, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table  # noqa: PLC0415  # not for --help and --json

    if not rows:
        click.echo(f"no models in {root}; cpuserve pull --list shows what can be fetched")
        return
    table = Table("name", "versions", "type", "input", "labels", "MB", "licence", "description")
    for column in table.columns:
        column.overflow = "fold"
    table.columns[4].justify = table.columns[5].justify = "right"
    for row in rows:
        inputs = " ".join(f"{port['type']}{port['shape']}".replace(" ", "") for port in row["inputs"])
        table.add_row(
            row["name"],
            " ".join(map(str, row["versions"])),
            row["model_type"],
            inputs,
            str(row["labels"] or ""),
            f"{row['bytes'] / 1e6:.1f}",
            row["licence"],
            row["description"] if row["error"] is None else f"cannot be read: {row['error']}",
        )
    table_console().print(table)
