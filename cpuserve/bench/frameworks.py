"""Loads a network into one of several frameworks, as a function from a tensor to tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.authoring.source import Shapes, SourceModel, read_source
from cpuserve.errors import CpuserveError, install_command
from cpuserve.serving.engine import Array
from cpuserve.serving.openvino_core import openvino_core

__all__ = ["FRAMEWORKS", "Framework", "Refused", "Run", "load", "sample", "with_batch"]

Run = Callable[[], list[Array]]
"""One pass over the tensor that was given on loading; outputs in the order of the source."""


class Refused(CpuserveError):
    """A framework does not run a network here; the text says why."""


@dataclass(frozen=True)
class Framework:
    """A framework that networks can be loaded into.

    Attributes:
        formats: what it reads, in the words of `cpuserve.authoring.source.SourceModel.framework`.
        takes: the formats in words.
        extra: the extra that brings it; empty where it is always there.
        load: makes a `Run` of a source, a tensor and a number of threads.
    """

    formats: frozenset[str]
    takes: str
    extra: str
    load: Callable[[SourceModel, Array, int], Run]


def load(framework: str, source: str, shapes: Shapes, tensor: Array, threads: int, precision: str) -> Run:
    """Load a network into a framework.

    Args:
        framework: ``openvino``, or a key of `FRAMEWORKS`.
        source: a file, a directory or ``module:callable``.
        shapes: of inputs, as for `cpuserve.authoring.source.read_source`.
        tensor: the input.
        threads: threads for one pass.
        precision: OpenVINO's precision, or "auto". The others compute as their files say.

    Raises:
        Refused: it is not installed, or cannot run this source.
    """
    found = read_source(source, shapes)
    if framework == "openvino":
        return _openvino(found, tensor, threads, precision)
    one = FRAMEWORKS[framework]
    if found.framework not in one.formats:
        raise Refused(f"takes {one.takes}; {found.name} is {found.title}")
    try:
        return one.load(found, tensor, threads)
    except ImportError as error:
        raise Refused(f"{error.name or framework} is not installed: {install_command(one.extra)}") from error


def with_batch(source: SourceModel, batch: int) -> ov.Model:
    """The graph of a source with ``batch`` rows where its only input leaves the first side open.

    Raises:
        Refused: another number of inputs than one, another side is open, or the batch is another one.
    """
    model = source.model
    if len(model.inputs) != 1:
        raise Refused(f"{source.name} has {len(model.inputs)} inputs; networks with one are compared")
    shape = model.input(0).partial_shape
    if shape[0].is_dynamic:
        shape[0] = batch
        model.reshape(shape)
    if shape.is_dynamic or shape[0].get_length() != batch:
        name = model.input(0).any_name if model.input(0).get_names() else "NAME"
        raise Refused(f"the input of {source.name} is {shape}: say --input {name}[{batch},...], or --batch")
    return model


def _openvino(source: SourceModel, tensor: Array, threads: int, precision: str) -> Run:
    properties: dict[str, Any] = {
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # as the server does
    }
    if precision != "auto":
        properties["INFERENCE_PRECISION_HINT"] = precision
    model = with_batch(source, len(tensor))
    request = openvino_core().compile_model(model, "CPU", properties).create_infer_request()
    request.set_input_tensor(ov.Tensor(tensor, shared_memory=True))

    def run() -> list[Array]:
        request.infer(share_outputs=True)
        return [output.data for output in request.output_tensors]

    return run


def _onnxruntime(source: SourceModel, tensor: Array, threads: int) -> Run:
    import onnxruntime  # noqa: PLC0415  # an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(source.path), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: tensor}

    def run() -> list[Array]:
        found: list[Array] = session.run(None, given)
        return found

    return run


def _cv2(source: SourceModel, tensor: Array, threads: int) -> Run:
    import cv2  # noqa: PLC0415  # slow to load

    cv2.setNumThreads(threads)
    try:
        net = cv2.dnn.readNetFromONNX(str(source.path))
    except cv2.error as error:
        raise Refused(f"OpenCV cannot read it: {error.err}") from error
    names = net.getUnconnectedOutLayersNames()

    def run() -> list[Array]:
        net.setInput(tensor)
        return list(net.forward(names))

    return run


def _torch(source: SourceModel, tensor: Array, threads: int, *, compiled: bool = False) -> Run:
    import torch  # noqa: PLC0415  # an extra

    torch.set_num_threads(threads)
    program = source.program
    if isinstance(program, torch.export.ExportedProgram):
        program = program.module()
    if compiled:
        if isinstance(program, torch.jit.ScriptModule):
            raise Refused("compiles Python modules, not TorchScript: give module:callable")
        program = torch.compile(program)
    given = torch.from_numpy(tensor)

    def run() -> list[Array]:
        with torch.inference_mode():
            found = program(given)
        outputs = found if isinstance(found, (tuple, list)) else [found]
        return [output.numpy() for output in outputs]

    return run


def _torch_compiled(source: SourceModel, tensor: Array, threads: int) -> Run:
    return _torch(source, tensor, threads, compiled=True)


def _tflite(source: SourceModel, tensor: Array, threads: int) -> Run:
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  # either will do
    except ImportError:
        import tensorflow as tf  # noqa: PLC0415

        Interpreter = tf.lite.Interpreter  # noqa: N806  # a class

    interpreter = Interpreter(model_path=str(source.path), num_threads=threads)
    entry = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(entry, tensor.shape)
    interpreter.allocate_tensors()
    outputs = [output["index"] for output in interpreter.get_output_details()]

    def run() -> list[Array]:
        interpreter.set_tensor(entry, tensor)
        interpreter.invoke()
        return [interpreter.get_tensor(output) for output in outputs]

    return run


def _tensorflow(source: SourceModel, tensor: Array, threads: int) -> Run:
    import tensorflow as tf  # noqa: PLC0415  # an extra

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    path = source.path or Path()
    given = tf.constant(tensor)
    if path.is_dir():
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]
        (name,) = signature.structured_input_signature[1]

        def saved() -> list[Array]:
            return [output.numpy() for output in signature(**{name: given}).values()]

        return saved
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    used = {name.lstrip("^").split(":")[0] for node in graph.node for name in node.input}
    entries = [node.name for node in graph.node if node.op == "Placeholder"]
    ends = [node.name for node in graph.node if node.name not in used and node.op not in _NO_ENDS]
    whole = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
    function = whole.prune(
        [whole.graph.get_tensor_by_name(f"{name}:0") for name in entries],
        [whole.graph.get_tensor_by_name(f"{name}:0") for name in ends],
    )

    def frozen() -> list[Array]:
        return [output.numpy() for output in function(given)]

    return frozen


_NO_ENDS = frozenset({"Placeholder", "Const", "NoOp"})

FRAMEWORKS: Mapping[str, Framework] = {
    "onnxruntime": Framework(frozenset({"onnx"}), "ONNX files", "onnx", _onnxruntime),
    "torch": Framework(
        frozenset({"pytorch"}),
        "TorchScript files and module:callable",
        "train",
        _torch,
    ),
    "torch.compile": Framework(frozenset({"pytorch"}), "module:callable", "train", _torch_compiled),
    "cv2": Framework(frozenset({"onnx"}), "ONNX files", "", _cv2),
    "tflite": Framework(frozenset({"tflite"}), ".tflite files", "tflite", _tflite),
    "tensorflow": Framework(
        frozenset({"tf"}),
        "frozen graphs (.pb) and SavedModels",
        "tensorflow",
        _tensorflow,
    ),
}
"""The frameworks beside OpenVINO, by the name that ``--with`` takes."""


def sample(model: ov.Model, batch: int, decoded: list[Array]) -> Array:
    """The input of a network: pictures where it takes them, else seeded noise.

    Args:
        model: its graph, without open sides.
        batch: rows.
        decoded: RGB u8 [H, W, 3], used in turn.

    Returns:
        An array of the input's type and shape. Floats are pixels from -1 to 1, integers are pixels.
    """
    import cv2  # noqa: PLC0415  # slow to load

    from cpuserve.models.card import Card  # noqa: PLC0415
    from cpuserve.serving.graph import image_input  # noqa: PLC0415

    port = model.input(0)
    shape, dtype = tuple(port.shape), port.element_type.to_dtype()
    source = image_input(model, Card())
    if source is None or source.channels != 3:
        noise = np.random.default_rng(0).uniform(-1, 1, shape)
        return noise.astype(dtype) if dtype.kind == "f" else (64 * (noise + 1)).astype(dtype)
    rows = [cv2.resize(decoded[row % len(decoded)], (source.width, source.height)) for row in range(batch)]
    pixels = np.stack(rows)
    if source.layout == "NCHW":
        pixels = pixels.transpose(0, 3, 1, 2)
    if dtype.kind == "f":
        return np.ascontiguousarray((pixels.astype(np.float32) / 127.5 - 1).astype(dtype))
    if dtype == np.int8:
        return np.ascontiguousarray((pixels.astype(np.int16) - 128).astype(np.int8))
    return np.ascontiguousarray(pixels.astype(dtype))
