"""Runs a model in the framework it comes from."""

from __future__ import annotations

import importlib
import os
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from cpuserve.authoring.parity import Array
from cpuserve.authoring.source import SourceModel
from cpuserve.errors import ModelLoadError, install_command
from cpuserve.serving.openvino_core import openvino_core

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EXACT", "OriginalModel", "load_original"]

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": False, "NUM_STREAMS": 1}
"""Properties that run quantised graphs in f32 too: CPUs without VNNI add int8 products in 16 bits, which
saturate. One stream: with more, OpenVINO 2026.4 reads memory it has not written when that mode is off."""

_EXTRAS = {"onnxruntime": "onnx", "tensorflow": "tensorflow", "torch": "train", "ai_edge_litert": "tflite"}
_PORT = re.compile(r":\d+$")

Run = Callable[[Sequence[Array]], list[Array]]


@dataclass(frozen=True)
class OriginalModel:
    """A model in its own framework.

    Attributes:
        title: framework and version.
        run: computes the outputs for a batch of one, in the order of the source's graph.
    """

    title: str
    run: Run


def load_original(source: SourceModel) -> OriginalModel | str:
    """Loads the source in its own framework, or says in a few words why it cannot be run there.

    The framework of an IR is OpenVINO; the other frameworks are extras.

    Raises:
        ModelLoadError: the framework refuses its own file.
    """
    module, make = {
        "onnx": ("onnxruntime", _onnx),
        "tf": ("tensorflow", _tensorflow),
        "tflite": ("ai_edge_litert", _tflite),
        "pytorch": ("torch", _torch),
        "ir": ("openvino", _openvino),
    }.get(source.framework, ("", None))
    if make is None:
        return f"{source.title} is not run in its own framework"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # which CPU instructions it would like to use
    try:
        framework = importlib.import_module(module)
    except ImportError:
        return f"{module} is not installed ({install_command(_EXTRAS[module])})"
    with _explained(source, module):
        run = make(framework, source)

    def explained(inputs: Sequence[Array]) -> list[Array]:
        with _explained(source, module):
            return run(inputs)

    return OriginalModel(f"{module} {framework.__version__.split('-')[0]}", explained)


@contextmanager
def _explained(source: SourceModel, module: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the frameworks about their own future
            yield
    except Exception as error:  # frameworks raise what they like
        if isinstance(error, ModelLoadError):
            raise
        said = str(error).strip().splitlines()
        raise ModelLoadError(
            f"{module} cannot run {source.name}: {(said or [type(error).__name__])[0][:300]}"
        ) from error


def _onnx(framework: Any, source: SourceModel) -> Run:
    options = framework.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = framework.InferenceSession(str(source.path), options, providers=["CPUExecutionProvider"])
    inputs = _matched(source.model.inputs, [port.name for port in session.get_inputs()])
    outputs = _matched_ends(source, [port.name for port in session.get_outputs()])
    return lambda rows: session.run(outputs, dict(zip(inputs, rows, strict=True)))


def _tensorflow(framework: Any, source: SourceModel) -> Run:
    if source.path is None:
        raise ModelLoadError(f"{source.name} is in no file")
    if source.path.is_dir():
        return _saved_model(framework, source, source.path)
    graph = framework.Graph()
    definition = framework.compat.v1.GraphDef.FromString(source.path.read_bytes())
    with graph.as_default():
        framework.import_graph_def(definition, name="")
    there = [tensor.name for node in graph.get_operations() for tensor in node.outputs]
    inputs = _matched(source.model.inputs, there)
    outputs = _matched_ends(source, there)
    session = framework.compat.v1.Session(graph=graph)
    return lambda rows: session.run(outputs, dict(zip(inputs, rows, strict=True)))


def _saved_model(framework: Any, source: SourceModel, path: Path) -> Run:
    loaded = framework.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    inputs = _matched(source.model.inputs, list(signature.structured_input_signature[1]))
    outputs = _matched_ends(source, list(signature.structured_outputs))

    def run(rows: Sequence[Array]) -> list[Array]:
        _ = loaded  # the signature does not keep the variables alive
        found = signature(**{name: framework.constant(row) for name, row in zip(inputs, rows, strict=True)})
        return [found[name].numpy() for name in outputs]

    return run


def _tflite(framework: Any, source: SourceModel) -> Run:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - an extra

    chosen = bool(source.asked[2])
    interpreter = Interpreter(str(source.path), num_threads=1, experimental_preserve_all_tensors=chosen)
    inputs = interpreter.get_input_details()
    outputs = interpreter.get_tensor_details() if chosen else interpreter.get_output_details()
    by_name = {port["name"]: port["index"] for port in [*inputs, *outputs]}
    into = [by_name[name] for name in _matched(source.model.inputs, [port["name"] for port in inputs])]
    out_of = [by_name[name] for name in _matched_ends(source, [port["name"] for port in outputs])]

    def run(rows: Sequence[Array]) -> list[Array]:
        for index, row in zip(into, rows, strict=True):
            interpreter.resize_tensor_input(index, row.shape)
        interpreter.allocate_tensors()
        for index, row in zip(into, rows, strict=True):
            interpreter.set_tensor(index, row)
        interpreter.invoke()
        return [interpreter.get_tensor(index).copy() for index in out_of]

    return run


def _torch(framework: Any, source: SourceModel) -> Run:
    exported = isinstance(source.program, framework.export.ExportedProgram)
    module = source.program.module() if exported else source.program

    def run(rows: Sequence[Array]) -> list[Array]:
        with framework.no_grad():
            found = module(*(framework.from_numpy(np.ascontiguousarray(row)) for row in rows))
        tensors = list(found.values()) if isinstance(found, dict) else found
        tensors = [tensors] if isinstance(tensors, framework.Tensor) else list(tensors)
        if len(tensors) != len(source.model.outputs):
            raise ModelLoadError(
                f"{source.name} gives {len(tensors)} tensors; outputs were chosen among them"
            )
        return [tensor.numpy() for tensor in tensors]

    return run


def _openvino(framework: Any, source: SourceModel) -> Run:
    compiled = openvino_core().compile_model(source.model, "CPU", EXACT)

    def run(rows: Sequence[Array]) -> list[Array]:
        found = compiled(list(rows))
        return [np.array(found[port]) for port in compiled.outputs]

    return run


def _matched_ends(source: SourceModel, there: Sequence[str]) -> list[str]:
    """The framework's name for each output; tensors that were chosen as outputs must be equal by name."""
    return _matched(source.model.outputs, there, by_place=not source.asked[2])


def _matched(ports: Sequence[ov.Output], there: Sequence[str], *, by_place: bool = True) -> list[str]:
    """The framework's name for each input or output of the graph; by position where no name is equal.

    Raises:
        ModelLoadError: one has no name there, such as an inner tensor chosen as output.
    """
    found = []
    for port in ports:
        names = port.get_names()
        plain = {_PORT.sub("", name) for name in names}
        same = [name for name in there if name in names] or [
            name for name in there if _PORT.sub("", name) in plain
        ]
        if same:
            found.append(same[0])
    if len(found) == len(ports):
        return found
    if not found and by_place and len(there) == len(ports):
        return list(there)
    missing = [sorted(port.get_names()) or [port.get_node().get_friendly_name()] for port in ports]
    raise ModelLoadError(f"it knows {', '.join(there[:6])}, and not all of {missing}")
