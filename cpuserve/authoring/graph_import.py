"""Imports a model file as a graph through OpenVINO's frontends, and says why one cannot be imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import openvino as ov

from cpuserve.authoring.formats import Format
from cpuserve.authoring.tflite_expansion import expand_operators
from cpuserve.authoring.tflite_operators import custom_operators
from cpuserve.errors import ModelLoadError, install_command
from cpuserve.serving.openvino_core import openvino_core

__all__ = ["import_graph", "in_front_of_unknown", "reason", "refuse_unknown_operations"]

_NOISE = (".cpp:", ".hpp:", "FrontEnd API failed", "wasn't fully converted", "Summary", "Frontend Extension")
_UNKNOWN = re.compile(r"No translator found for (\S+) node|No conversion rule found for operations: (.+)")
_EXTERNAL = re.compile(r"externally stored data in file \((.+?), offset: (\d+), data_length: (\d+)\)")
_PLACEHOLDERS = ("FrameworkNode", "TFFrameworkNode", "ONNXFrameworkNode")

_ADVICE = (  # what OpenVINO's message has in it, and what to try; the first match counts
    (
        r"edgetpu-custom-op",
        "it was compiled for an Edge TPU, whose code runs nowhere else: take the .tflite that was given to "
        "edgetpu_compiler",
    ),
    (
        r"TFLite_Detection_PostProcess|Convolution2DTransposeBias",
        f"it is converted with `{install_command('tflite')}`, which reads its options",
    ),
    (
        r"\bFlex[A-Z]\w*",
        "it holds TensorFlow's own operations (SELECT_TF_OPS): convert the SavedModel that it was made from",
    ),
    (
        r"Landmarks2TransformMatrix|TransformLandmarks|TransformTensorBilinear|MaxPoolingWithArgmax2D"
        r"|MaxUnpooling2D",
        "it is one of MediaPipe's own, which only MediaPipe runs",
    ),
    (
        r"ZipMap|Unsupported value_info type",
        "an output is a list of maps and no tensor, as ZipMap makes it: export it with sklearn-onnx's option "
        "zipmap=False",
    ),
    (
        r"ai\.onnx\.ml\.",
        "these are steps of classical machine learning (trees, encoders of labels), which OpenVINO does not "
        "run: export the neural network alone",
    ),
    (
        r"com\.microsoft\.(Q[A-Z]|Dynamic|MatMul\w*Bits|MatMulInteger)",
        "onnxruntime quantised it into operations of its own: quantise with quant_format=QDQ, or convert the "
        "float model",
    ),
    (
        r"com\.microsoft\.",
        "onnxruntime's optimiser wrote operations of its own: convert the model that it was given",
    ),
    (r"corrupted", "copy or download it again"),
    (
        r"rank has to be known|dynamic rank|[Rr]ank must be",
        "say the shapes of its inputs, as in --input NAME[1,3,224,224], or export it again with fixed ones",
    ),
    (
        r"No conversion rule|No translator",
        "export it without them; instead of a quantised model take the float one",
    ),
    (r"", "export it again with another exporter or opset, a quantised model from its float weights"),
)


def import_graph(
    path: Path, format_: Format, shapes: Mapping[str, ov.PartialShape] | None = None, *, cut: bool = False
) -> ov.Model:
    """Imports a file, or the directory of a SavedModel.

    Uses the runtime's reader: `ov.convert_model` reports its use over the network unless the user has opted
    out.

    Args:
        path: the file or directory.
        format_: its format; not PyTorch's.
        shapes: of inputs by name, which some files can only be imported with.
        cut: the graph will be ended at other tensors; operations that OpenVINO does not know are then kept
            as placeholders, and `refuse_unknown_operations` must follow.

    Raises:
        ModelLoadError: OpenVINO refuses it; the message says what to do.
    """
    try:
        return openvino_core().read_model(path)
    except RuntimeError as error:
        refusal = error
    said = reason(refusal).rstrip(".")
    if shapes:
        try:
            return _with_shapes(path, format_, shapes)
        except RuntimeError as error:
            refusal, said = error, reason(error).rstrip(".")
    unknown = _UNKNOWN.search(said)
    partial = _partly(path, format_) if unknown else None
    if partial is not None and (cut or not any(map(_is_placeholder, partial.get_ops()))):
        return partial
    version = ov.__version__.split("-")[0]
    advice = "; ".join(_advice(path, said, partial))
    raise ModelLoadError(f"OpenVINO {version} cannot import {path.name}: {said}; {advice}") from refusal


def refuse_unknown_operations(model: ov.Model, name: str) -> None:
    """Refuses a graph that still has a placeholder in it.

    Raises:
        ModelLoadError: it has; the message names tensors in front of it.
    """
    left = [node for node in model.get_ordered_ops() if _is_placeholder(node)]
    if left:
        raise ModelLoadError(
            f"the chosen outputs of {name} lie behind an operation that OpenVINO does not know, "
            f"{left[0].get_friendly_name()!r}; {_end_in_front(model)}"
        )


def in_front_of_unknown(model: ov.Model) -> list[str]:
    """Names of the tensors that placeholders read and that can be computed without one."""
    unknown: set[str] = set()  # names of the operations that need a placeholder
    fixed: set[str] = set()  # of those that need no input
    found: dict[str, None] = {}
    for node in model.get_ordered_ops():
        before = [port.get_node().get_name() for port in node.input_values()]
        if _is_placeholder(node):
            unknown.add(node.get_name())
            for port in node.input_values():
                source = port.get_node()
                if source.get_type_name() != "Parameter" and source.get_name() not in unknown | fixed:
                    found[_name(port)] = None
        elif any(name in unknown for name in before):
            unknown.add(node.get_name())
        elif node.get_type_name() != "Parameter" and all(name in fixed for name in before):
            fixed.add(node.get_name())
    return list(found)


def reason(error: BaseException) -> str:
    """The reason in an error of OpenVINO, without its source lines and phrases."""
    lines = [line.strip(" -:") for line in str(error).splitlines()]
    said = [line for line in lines if line and not any(noise in line for noise in _NOISE)]
    return "; ".join(said[:3])[:600] or "no reason given"


def _frontend(format_: Format) -> ov.frontend.FrontEnd:
    from openvino.frontend import FrontEndManager  # noqa: PLC0415 - few models need it

    return FrontEndManager().load_by_framework(format_.framework)


def _with_shapes(path: Path, format_: Format, shapes: Mapping[str, ov.PartialShape]) -> ov.Model:
    """Imports with shapes that are known before the operations are converted.

    Raises:
        RuntimeError: OpenVINO refuses it.
    """
    frontend = _frontend(format_)
    loaded = frontend.load(str(path))
    places = loaded.get_inputs()
    for place in places:
        names = place.get_names()
        shape = next((shapes[name] for name in names if name in shapes), None)
        if shape is None and len(places) == 1:
            shape = shapes.get("")
        if shape is not None and shape.rank.is_static:
            loaded.set_partial_shape(place, shape)
    return frontend.convert(loaded)


def _partly(path: Path, format_: Format) -> ov.Model | None:
    """The graph with placeholders for operations that are not known; None if there is none to be had."""
    frontend = _frontend(format_)
    try:
        loaded = frontend.load(str(path))
        model = frontend.convert_partially(loaded)
    except RuntimeError:  # what read_model said is said
        return None
    if format_.framework == "tflite":
        with suppress(ImportError):  # an extra; the advice names it
            expand_operators(model, custom_operators(path))
    return _in_order(model, loaded)


def _in_order(model: ov.Model, loaded: ov.frontend.InputModel) -> ov.Model:
    """The graph with its ends in the order of the file, which partial conversion turns around."""
    ends: list[Sequence[ov.Output]] = []
    for places, ports in ((loaded.get_inputs(), model.inputs), (loaded.get_outputs(), model.outputs)):
        by_name = {name: port for port in ports for name in port.get_names()}
        found = [by_name[name] for place in places for name in place.get_names() if name in by_name]
        if len(found) != len(ports):
            return model
        ends.append(found)
    inputs, outputs = ends
    results = [port.get_node() for port in outputs]
    return ov.Model(results, [port.get_node() for port in inputs], model.get_friendly_name())


def _advice(path: Path, said: str, partial: ov.Model | None) -> Iterator[str]:
    external = _EXTERNAL.search(said)
    if external:
        yield _external_data(path, external[1], int(external[2]) + int(external[3]))
        return
    yield next(text for words, text in _ADVICE if re.search(words, said))
    if partial is not None and in_front_of_unknown(partial):
        yield "or " + _end_in_front(partial)


def _external_data(path: Path, name: str, needed: int) -> str:
    file = path.parent / name
    if not file.is_file():
        return f"its weights lie in {name}, which is missing: copy it beside {path.name}"
    if file.stat().st_size < needed:
        return f"its weights in {name} end too early: {file.stat().st_size} of {needed} bytes; copy it again"
    return f"its weights in {name} cannot be read: check the permissions of the file"


def _end_in_front(model: ov.Model) -> str:
    names = in_front_of_unknown(model)
    if not names:
        return "nothing is in front of it"
    more = f" (and {len(names) - 6} more)" if len(names) > 6 else ""
    return f"end in front of it: {' '.join(f'--output {name}' for name in names[:6])}{more}"


def _is_placeholder(node: ov.Node) -> bool:
    return node.get_type_name() in _PLACEHOLDERS


def _name(port: ov.Output) -> str:
    names: Sequence[str] = sorted(port.get_names())
    return str(names[0] if names else port.get_node().get_friendly_name())
