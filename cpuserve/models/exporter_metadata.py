"""Reads what the exporter of a model file wrote into it or beside it: who it is, and keys of the card."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpuserve.models.card import MODEL_INFO, Card
from cpuserve.models.model_files import EXPORTER_FILE
from cpuserve.models.protobuf import fields, size_of
from cpuserve.models.tflite_metadata import associated_files, tflite_metadata

__all__ = ["ExporterMetadata", "exporter_metadata"]

_FRAMEWORKS = {".onnx": "onnx", ".tflite": "tflite", ".pb": "tf", ".pdmodel": "paddle", ".xml": "ir"}
_PRODUCER, _PROPERTY, _KEY, _VALUE = 2, 14, 1, 2  # field numbers of ONNX's ModelProto and its entries
_MOST_BYTES = 1 << 22  # of one property
_YAML_KEY = re.compile(r"^(author|task|end2end): *(.+)$", re.MULTILINE)
_YAML_NAME = re.compile(r"^  (\d+): *(.+)$", re.MULTILINE)
_TASKS = {"detect": "YOLO", "segment": "YOLO-seg", "pose": "YOLO-pose", "obb": "YOLO-obb"}
_RANGES = {  # ONNX's Image.NominalPixelRange as mean and scale
    "nominalrange_0_255": ((), ()),
    "normalized_0_1": ((), (255.0,)),
    "normalized_1_1": ((127.5,), (127.5,)),
}


@dataclass(frozen=True)
class ExporterMetadata:
    """What an exporter wrote.

    Attributes:
        framework: OpenVINO's word for the framework, such as "onnx"; empty for an unknown one.
        producer: the program that wrote an ONNX model, in its own words.
        title: whose metadata the keys are from, for people; empty without any.
        said: the card's fields that they set.
    """

    framework: str = ""
    producer: str = ""
    title: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)


def exporter_metadata(file: Path) -> ExporterMetadata:
    """What the exporter of a model file, or of a SavedModel's directory, wrote.

    Raises:
        ModelLoadError: keys of Model API hold values that cannot be meant.
    """
    framework = "tf" if file.is_dir() else _FRAMEWORKS.get(file.suffix.lower(), "")
    producer, properties = _onnx(file) if framework == "onnx" else ("", {})
    folder = file if file.is_dir() else file.parent
    by_ultralytics = _ultralytics(properties)
    if framework == "tflite":
        by_ultralytics = by_ultralytics or _ultralytics(_carried(file))
    if framework not in ("", "ir"):
        by_ultralytics = by_ultralytics or _ultralytics(_beside(folder / EXPORTER_FILE))
    if by_ultralytics:
        return ExporterMetadata(framework, producer, "Ultralytics' metadata", by_ultralytics)
    if framework == "tflite":
        return _tflite(file)
    said = _model_api(properties)
    if said:
        return ExporterMetadata(framework, producer, "Model API's metadata", said)
    return ExporterMetadata(framework, producer, "the ONNX metadata", _properties(properties))


def _onnx(file: Path) -> tuple[str, dict[str, str]]:
    """The producer of an ONNX model, and its metadata by key."""
    producer, found = "", {}
    try:
        with file.open("rb") as data:
            for part in fields(data, 0, size_of(data)):
                if part.number not in (_PRODUCER, _PROPERTY) or part.end - part.start > _MOST_BYTES:
                    continue
                data.seek(part.start)
                content = data.read(part.end - part.start)
                if part.number == _PRODUCER:
                    producer = content.decode(errors="replace")
                    continue
                entry = {}
                for inner in [*fields(data, part.start, part.end)]:
                    data.seek(inner.start)
                    entry[inner.number] = data.read(inner.end - inner.start).decode(errors="replace")
                found[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    except OSError:
        return "", {}  # reading the model says why
    return producer, found


def _ultralytics(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The card that Ultralytics' own export to OpenVINO writes, by what its other exports say."""
    if str(properties.get("author", "")) != "Ultralytics":
        return {}
    said: dict[str, Any] = {"reverse_input_channels": True, "scale_values": (255.0,)}
    names = _literal(properties.get("names"))
    if isinstance(names, Mapping):
        said["labels"] = tuple(str(name) for name in names.values())
    task = str(properties.get("task", "detect"))
    if task == "classify":
        return said | {"model_type": "Classification", "resize_type": "crop"}
    said |= {"resize_type": "fit_to_window_letterbox", "pad_value": 114}
    end_to_end = str(properties.get("end2end", "False")).lower() == "true"
    if task == "detect" or (task in _TASKS and not end_to_end):
        said["model_type"] = _TASKS[task]
    return said


def _carried(file: Path) -> Mapping[str, Any]:
    """Ultralytics' metadata in the archive behind a TensorFlow Lite file."""
    for content in associated_files(file).values():
        found = _literal(content.decode(errors="replace"))
        if isinstance(found, Mapping) and "author" in found:
            return found
    return {}


def _beside(file: Path) -> dict[str, Any]:
    """Ultralytics' file, of which no more than author, task and names are read."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    _, _, names = text.partition("\nnames:\n")
    found: dict[str, Any] = {key: value.strip() for key, value in _YAML_KEY.findall(text)}
    listed = {int(number): name.strip().strip("'\"") for number, name in _YAML_NAME.findall(names)}
    return found | ({"names": listed} if listed else {})


def _literal(value: Any) -> Any:
    """A text as JSON or as Python writes it; None where it is neither."""
    if not isinstance(value, str):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _model_api(properties: Mapping[str, str]) -> dict[str, Any]:
    """Model API's keys, which its exporters and OTX write into ONNX as ``model_info KEY``."""
    start = f"{MODEL_INFO} "
    texts = {key.removeprefix(start): text for key, text in properties.items() if key.startswith(start)}
    card = Card.from_sections(texts, {})
    return {key: getattr(card, key) for key in texts if hasattr(card, key) and texts[key].strip()}


def _properties(properties: Mapping[str, str]) -> dict[str, Any]:
    """ONNX's own keys for pictures, means as timm has them, and names of classes."""
    texts = {key.lower(): text.strip() for key, text in properties.items()}
    said: dict[str, Any] = {}
    order = texts.get("image.bitmappixelformat", "").lower()[:3]
    if order in ("rgb", "bgr"):
        said["reverse_input_channels"] = order == "rgb"
    pixel_range = texts.get("image.nominalpixelrange", "").lower()
    if pixel_range in _RANGES:
        said["mean_values"], said["scale_values"] = _RANGES[pixel_range]
    config = _literal(texts.get("pretrained_cfg"))
    config = config if isinstance(config, Mapping) else texts
    for key, source in (("mean_values", "mean"), ("scale_values", "std")):
        values = _literal(config.get(source))
        if (numbers := _numbers(values)) and not (source == "std" and 0 in numbers):
            said[key] = tuple(255 * number for number in numbers) if max(numbers) <= 1 else numbers
    for key in ("names", "class_names", "classes", "labels", "character"):
        if labels := _names(texts.get(key)):
            return said | {"labels": labels}
    return said


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, (list, tuple)) or len(values) not in (1, 3):
        return ()
    fit = all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    return tuple(float(value) for value in values) if fit else ()


def _names(text: str | None) -> tuple[str, ...]:
    """Names of classes: a list, or the values of a table, as JSON or Python, or a line each."""
    found = _literal(text)
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, (list, tuple)) and all(isinstance(name, str) for name in found):
        return tuple(found)
    lines = (text or "").splitlines()
    return tuple(lines) if len(lines) > 1 else ()


def _tflite(file: Path) -> ExporterMetadata:
    found = tflite_metadata(file)
    if found is None:
        return ExporterMetadata("tflite")
    said: dict[str, Any] = {"reverse_input_channels": True} if found.rgb else {}
    for key, values in (("mean_values", found.mean), ("scale_values", found.std)):
        if (numbers := _numbers(values)) and 0 not in found.std:
            said[key] = numbers
    if found.labels:
        said["labels"] = found.labels
    return ExporterMetadata("tflite", "", "TensorFlow Lite's metadata", said)
