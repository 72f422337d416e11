"""Lists the models of a repository from the XML of each IR, without loading OpenVINO."""

from __future__ import annotations

# The files are those that OpenVINO is given to run: a repository that is not trusted is lost before this.
import xml.etree.ElementTree as ET
from typing import Any

from cpuserve.errors import ModelLoadError, RepositoryError
from cpuserve.models.card import MODEL_INFO, OWN, Card
from cpuserve.models.repository import ModelFile, Repository

__all__ = ["list_models"]


def list_models(repository: Repository) -> list[dict[str, Any]]:
    """The name and versions of each model, and what its latest version says of itself.

    Raises:
        RepositoryError: there is no such repository.
    """
    if not repository.root.is_dir():
        raise RepositoryError(f"no model repository {repository.root}: --model-repository names another")
    rows = []
    for name in repository.names():
        versions = repository.versions(name)
        rows.append({"name": name, "versions": versions} | _describe(repository.find(name, versions[-1])))
    return rows


def _describe(file: ModelFile) -> dict[str, Any]:
    """What an IR says of itself; the key ``error`` says why it cannot be read, else it is None."""
    said: dict[str, Any] = {
        "model_type": "",
        "evidence": "",
        "decode": "",
        "inputs": [],
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
            return said | {"description": f"{file.xml.name}, read as it is"}
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
