"""Writes small TensorFlow Lite files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

__all__ = ["TfliteFile"]

_TYPES = {"float32": schema.TensorType.FLOAT32, "uint8": schema.TensorType.UINT8}


@dataclass
class TfliteFile:
    """One subgraph, whose tensors are named.

    Attributes:
        model: in the form of the schema.
    """

    model: Any = field(default_factory=schema.ModelT)

    def __post_init__(self) -> None:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs, graph.name = [], [], [], [], b"main"
        self.model.version, self.model.subgraphs, self.model.operatorCodes = 3, [graph], []
        self.model.buffers = [schema.BufferT()]

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str = "float32", scale: float = 0.0, zero: int = 0
    ) -> int:
        """Adds a tensor; one with a scale is quantised."""
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), list(shape), _TYPES[dtype], 0
        if scale:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [zero]
        self.model.subgraphs[0].tensors.append(made)
        return len(self.model.subgraphs[0].tensors) - 1

    def constant(self, name: str, values: Any, scale: float = 0.0, zero: int = 0) -> int:
        """Adds a tensor with values."""
        values = np.asarray(values)
        place = self.tensor(name, values.shape, values.dtype.name, scale, zero)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.model.subgraphs[0].tensors[place].buffer = len(self.model.buffers) - 1
        return place

    def add(self, first: int, second: int, out: int) -> None:
        """Adds an addition."""
        options = schema.AddOptionsT()
        self._operator(
            schema.BuiltinOperator.ADD, "", [first, second], [out], schema.BuiltinOptions.AddOptions, options
        )

    def custom(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], raw: bytes = b"", **options: Any
    ) -> None:
        """Adds a custom operation, with its options as a flexbuffer or as they are."""
        made = self._operator(schema.BuiltinOperator.CUSTOM, name, inputs, outputs, 0, None)
        builder = flexbuffers.Builder()
        with builder.Map():
            for key, value in options.items():
                {bool: builder.Bool, int: builder.Int, float: builder.Float}[type(value)](key, value)
        made.customOptions = np.frombuffer(raw or bytes(builder.Finish()), np.uint8)

    def save(self, file: Path, inputs: Sequence[int], outputs: Sequence[int]) -> Path:
        """Writes the file."""
        graph = self.model.subgraphs[0]
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        file.write_bytes(bytes(builder.Output()))
        return file

    def _operator(
        self, code: int, name: str, inputs: Sequence[int], outputs: Sequence[int], kind: int, options: Any
    ) -> Any:
        made = schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), 1
        made.customCode = name.encode() or None
        self.model.operatorCodes.append(made)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.model.subgraphs[0].operators.append(operator)
        return operator
