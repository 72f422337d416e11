"""Reads and writes `steps.json`, which lies beside a model and names Python to run before and after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.cut_manifest import PYTHON, CutManifest, CutPart, CutPort

__all__ = ["PythonSteps"]

_FILE = "steps.json"
_KEYS = ("before", "after", "inputs", "outputs")


@dataclass(frozen=True)
class PythonSteps:
    """Functions that run before and after a whole model.

    Attributes:
        before: from what clients send to the model's inputs; None for none.
        after: from the model's outputs to what clients get; None for none.
        inputs: what clients send; empty: pixels u8 NHWC for a model of pictures, else the model's inputs.
        outputs: what clients get; empty: what ``after`` gives for zeros.
    """

    before: CutPart | None
    after: CutPart | None
    inputs: tuple[CutPort, ...] = ()
    outputs: tuple[CutPort, ...] = ()

    @classmethod
    def parse(cls, before: str, after: str) -> PythonSteps | None:
        """Reads the steps from the command line; None where neither is given.

        Raises:
            UsageError: one is not MODULE:FUNCTION or MODULE:CLASS.
        """
        steps = cls(_step("--before", before), _step("--after", after))
        return steps if before or after else None

    def write(self, folder: Path) -> None:
        """Write them into a version's directory."""
        names = {"before": self.before, "after": self.after}
        document = {key: part.what for key, part in names.items() if part is not None}
        (folder / _FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, model: Path) -> PythonSteps | None:
        """Reads the `steps.json` beside a model's file; None for a model without.

        Raises:
            ModelLoadError: the file is damaged, or the model is cut and has its Python in `cut.json`.
        """
        file = model.parent / _FILE
        try:
            document = json.loads(file.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ModelLoadError(f"{file} cannot be read: {error}") from error
        if CutManifest.of(model) is not None:
            raise ModelLoadError(f"{file} lies beside a cut model: name its functions as --head and --tail")
        if not isinstance(document, Mapping) or (unknown := sorted({*document} - {*_KEYS})):
            found = f"has {', '.join(unknown)}" if isinstance(document, Mapping) else "is no object"
            raise ModelLoadError(f"{file} {found}; it may have {', '.join(_KEYS)}")
        try:
            return cls(
                _step("before", document.get("before", "")),
                _step("after", document.get("after", "")),
                tuple(map(_port, document.get("inputs", ()))),
                tuple(map(_port, document.get("outputs", ()))),
            )
        except (UsageError, KeyError, TypeError, ValueError) as error:
            raise ModelLoadError(f"{file} is damaged at {error}") from error


def _step(place: str, text: object) -> CutPart | None:
    if text in ("", None):
        return None
    if not isinstance(text, str):
        raise TypeError(f"{place}: {text!r} is no text")
    try:
        part = CutPart.parse(text)
    except UsageError:
        part = None
    if part is None or part.run != PYTHON:
        raise UsageError(f"{place} {text!r}: give MODULE:FUNCTION or MODULE:CLASS")
    return part


def _port(found: Mapping[str, Any]) -> CutPort:
    """An input or output: ``{"name": "x", "type": "f32", "shape": [-1, 4]}``."""
    return CutPort.checked((found["name"],), found["type"], found["shape"])
