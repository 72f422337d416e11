"""Lists the models of a repository from the XML of each IR, without loading OpenVINO."""

from __future__ import annotations

# The files are those that OpenVINO is given to run: a repository that is not trusted is lost before this.
import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpuserve.errors import ModelLoadError, RepositoryError
from cpuserve.models.card import MODEL_INFO, OWN, Card
from cpuserve.models.repository import ModelFile, Repository

__all__ = ["list_models"]

_BETWEEN_NAMES = re.compile(r"(?<!\\),")  # a comma inside of a name has a backslash before it


def list_models(repository: Repository, read_other: Callable[[Path], dict[str, Any]]) -> list[dict[str, Any]]:
    """The name, aliases and versions of each model, and what its latest version says of itself.

    Args:
        repository: the models.
        read_other: reads a model that is not an IR, and gives the keys of its row that are known.

    Raises:
        RepositoryError: there is no such repository.
    """
    if not repository.root.is_dir():
        raise RepositoryError(f"no model repository {repository.root}: --model-repository names another")
    rows = []
    aliases = repository.aliases()
    for name in repository.names():
        versions = repository.versions(name)
        other_names = sorted(alias for alias, owner in aliases.items() if owner == name)
        rows.append(
            {"name": name, "aliases": other_names, "versions": versions}
            | _describe(repository.find(name, versions[-1]), read_other)
        )
    return rows


def _describe(file: ModelFile, read_other: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What an IR says of itself; the key ``error`` says why it cannot be read, else it is None."""
    said: dict[str, Any] = {
        "model_type": "",
        "evidence": "",
        "decode": "",
        "inputs": [],
        "pictures": None,
        "labels": 0,
        "licence": "",
        "description": "",
        "bytes": 0,
        "path": str(file.xml),
        "error": None,
    }
    try:
        said["bytes"] = sum(part.stat().st_size for part in file.files if part.is_file())
        if file.xml.suffix != ".xml":
            return said | read_other(file.xml)
        net = ET.parse(file.xml).getroot()  # noqa: S314 - see the import
        info = net.find("rt_info")
        card = Card.from_sections(_section(info, MODEL_INFO), _section(info, OWN))
    except (ET.ParseError, ModelLoadError, OSError) as error:
        return said | {"error": str(error)}
    inputs = [_input(layer) for layer in net.iterfind("layers/layer[@type='Parameter']")]
    return said | {
        "model_type": card.model_type,
        "evidence": card.evidence,
        "decode": card.decode,
        "inputs": inputs,
        "pictures": _pictures(inputs, card),
        "labels": len(card.labels),
        "licence": card.licence,
        "description": card.description,
    }


def _section(info: ET.Element | None, name: str) -> dict[str, str]:
    found = None if info is None else info.find(name)
    return {} if found is None else {key.tag: key.get("value", "") for key in found}


def _pictures(inputs: list[dict[str, Any]], card: Card) -> str | None:
    """What becomes of a pixel; None where the model takes no pictures."""
    shape = inputs[0]["shape"] if len(inputs) == 1 else []
    if len(shape) != 4:
        return None
    last = card.layout == "NHWC" or (not card.layout and shape[3] in (1, 3))
    channels, sides = (shape[3], shape[1:3]) if last else (shape[1], shape[2:])
    if channels not in (1, 3) or -1 in sides:
        return None
    if inputs[0]["type"] == "i8" and not (card.mean_values or card.scale_values):
        card = dataclasses.replace(card, mean_values=(128.0,))  # as it is served
    return card.pixels(channels)


def _input(layer: ET.Element) -> dict[str, Any]:
    data, port = layer.find("data"), layer.find("output/port")
    sides = (data.get("shape", "") if data is not None else "").split(",")
    return {
        "name": _name(layer.get("name", ""), port),
        "type": data.get("element_type", "") if data is not None else "",
        "shape": [int(side) if side.isdigit() else -1 for side in sides if side],
    }


def _name(own: str, port: ET.Element | None) -> str:
    """The name of an input that a server shows: its own among those of its tensor, else the shortest."""
    listed = "" if port is None else port.get("names", "")
    names = [name.replace("\\,", ",") for name in _BETWEEN_NAMES.split(listed) if name]
    return min(names, key=lambda name: (name != own, len(name), name), default=own)
