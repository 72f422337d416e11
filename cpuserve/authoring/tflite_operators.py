"""Reads the custom operations of a TensorFlow Lite file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.models.quantisation import Dequantise

__all__ = ["CustomOperator", "custom_operators"]


@dataclass(frozen=True)
class CustomOperator:
    """One custom operation.

    Attributes:
        code: its name.
        outputs: names of the tensors it gives.
        quantised: of each input, how its integers stand for real numbers; None for real numbers.
        options: its options as they are stored.
    """

    code: str
    outputs: tuple[str, ...]
    quantised: tuple[Dequantise | None, ...]
    options: bytes


def custom_operators(file: Path) -> list[CustomOperator]:
    """The custom operations of a file, in their order.

    Raises:
        ImportError: the reader of such files, an extra, is not installed.
    """
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - an extra

    model = schema.Model.GetRootAs(file.read_bytes())
    graph, found = model.Subgraphs(0), []
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        code = model.OperatorCodes(operator.OpcodeIndex()).CustomCode()
        if not code:
            continue
        inputs = [operator.Inputs(index) for index in range(operator.InputsLength())]
        outputs = [graph.Tensors(operator.Outputs(index)) for index in range(operator.OutputsLength())]
        found.append(
            CustomOperator(
                code.decode(),
                tuple(tensor.Name().decode() for tensor in outputs),
                tuple(None if index < 0 else _quantised(graph.Tensors(index)) for index in inputs),
                operator.CustomOptionsAsNumpy().tobytes() if operator.CustomOptionsLength() else b"",
            )
        )
    return found


def _quantised(tensor: Any) -> Dequantise | None:
    how = tensor.Quantization()
    if how is None or not how.ScaleLength() or not how.Scale(0):
        return None
    return Dequantise(scale=how.Scale(0), zero_point=how.ZeroPoint(0) if how.ZeroPointLength() else 0)
