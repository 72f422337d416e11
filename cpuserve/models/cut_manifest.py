"""Reads and writes `cut.json`, which lies beside the IR of a cut model and names its head and tail."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import openvino as ov

from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.port_names import names_of

__all__ = ["IR", "NONE", "ONNX", "PYTHON", "TENSORFLOW", "CutManifest", "CutPart", "CutPort"]

_FILE = "cut.json"
IR, PYTHON, ONNX, TENSORFLOW, NONE = "ir", "python", "onnx", "tf", "none"
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_TYPES = frozenset(name for name in dir(ov.Type) if isinstance(getattr(ov.Type, name), ov.Type))
_SAVED = {IR: "model.xml", ONNX: "model.onnx", TENSORFLOW: "model.pb"}


@dataclass(frozen=True)
class CutPart:
    """How a head or a tail runs.

    Attributes:
        run: "ir", "onnx", "tf" (a file), "python" (a function), "none" (not here: the client does it).
        what: the file, below the version's directory; or the function, as ``module:function``.
    """

    run: str
    what: str = ""

    @classmethod
    def parse(cls, text: str) -> CutPart:
        """Reads a part from the command line: ir, none, MODULE:FUNCTION, onnx:FILE or tf:FILE.

        Raises:
            UsageError: it is none of these.
        """
        word, _, what = text.partition(":")
        if text in (IR, NONE):
            return cls(text)
        if word in (ONNX, TENSORFLOW) and what:
            return cls(word, what)
        if _FUNCTION.fullmatch(text):
            return cls(PYTHON, text)
        raise UsageError(
            f"{text!r} cannot run a head or tail; give ir, none, MODULE:FUNCTION, onnx:FILE or tf:FILE"
        )

    def saved_in(self, folder: str) -> CutPart:
        """The part as it is stored: a file gets its own name below ``folder``."""
        return CutPart(self.run, f"{folder}/{_SAVED[self.run]}") if self.run in _SAVED else self


@dataclass(frozen=True)
class CutPort:
    """An input or output of the whole model.

    Attributes:
        names: its tensor names.
        type: element type in OpenVINO's words ("f32").
        shape: with the batch; -1 where it varies.
    """

    names: tuple[str, ...]
    type: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, value: ov.Output) -> CutPort:
        """Describes an input or output of a model."""
        shape = value.get_partial_shape()
        sides = () if shape.rank.is_dynamic else tuple(-1 if s.is_dynamic else s.get_length() for s in shape)
        return cls(tuple(names_of(value)), value.get_element_type().get_type_name(), sides)

    @classmethod
    def checked(cls, names: Sequence[str], element: str, shape: Sequence[int]) -> CutPort:
        """What a file says of an input or output.

        Raises:
            TypeError: a name is no text, or a side no number.
            ValueError: the type is none of OpenVINO's, or a side is impossible.
        """
        if element not in _TYPES:
            raise ValueError(f"type {element!r}")
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"name {names!r}")
        if not all(isinstance(side, int) and side >= -1 for side in shape):
            raise ValueError(f"shape {shape!r}")
        return cls(tuple(names), element, tuple(shape))

    @property
    def element(self) -> ov.Type:
        """The element type as OpenVINO has it."""
        return getattr(ov.Type, self.type)  # `ov.Type("u8")` reads NumPy's words: eight bytes


@dataclass(frozen=True)
class CutManifest:
    """The parts of a cut model beside its core.

    Attributes:
        head: before the core; None where the core begins where the whole did.
        tail: behind the core; None where it ends where the whole did.
        inputs: of the whole.
        outputs: of the whole.
        probabilities: whether the whole's first output holds probabilities.
        report: what else is worth knowing: source, cut tensors, multiply-adds, parity.
    """

    head: CutPart | None
    tail: CutPart | None
    inputs: tuple[CutPort, ...]
    outputs: tuple[CutPort, ...]
    probabilities: bool = False
    report: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it into a version's directory."""
        (folder / _FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, model: Path) -> CutManifest | None:
        """Reads the `cut.json` beside a model's file; None for a model that is not cut.

        Raises:
            ModelLoadError: the file is damaged, or names a file outside of the version.
        """
        file = model.parent / _FILE
        try:
            document = json.loads(file.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ModelLoadError(f"{file} cannot be read: {error}; cut the model again") from error
        try:
            return cls(
                _part(document["head"]),
                _part(document["tail"]),
                tuple(map(_port, document["inputs"])),
                tuple(map(_port, document["outputs"])),
                bool(document["probabilities"]),
                document["report"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelLoadError(f"{file} is damaged at {error}; cut the model again") from error


def _part(found: Mapping[str, str] | None) -> CutPart | None:
    if found is None:
        return None
    part = CutPart(found["run"], found["what"])
    path = PurePosixPath(part.what)
    inside = not path.is_absolute() and ".." not in path.parts
    well = {PYTHON: bool(_FUNCTION.fullmatch(part.what)), NONE: True, **dict.fromkeys(_SAVED, inside)}
    if not well.get(part.run, False):
        raise ValueError(f"{part.run!r}: {part.what!r}")
    return part


def _port(found: Mapping[str, Any]) -> CutPort:
    return CutPort.checked(found["names"], found["type"], found["shape"])
