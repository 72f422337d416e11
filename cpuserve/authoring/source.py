"""Reads a model of any framework into an OpenVINO graph, or says why it cannot be read."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.authoring.formats import EXPORTED, Format, recognise
from cpuserve.authoring.graph_import import import_graph, reason, refuse_unknown_operations
from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.model_files import files_of

__all__ = ["SourceModel", "input_shapes", "names_in", "read_model", "read_source", "select"]

_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_PORT = re.compile(r":\d+$")
_INPUT = re.compile(r"([^\[\]]*)(\[[^\[\]]*\])?")
_BETWEEN = re.compile(r",(?![^\[]*\])")  # commas outside of brackets

Shapes = Mapping[str, ov.PartialShape]


@dataclass(frozen=True)
class SourceModel:
    """A model of any framework, and the graph that OpenVINO makes of it.

    Attributes:
        model: the graph, with the shapes that were asked for.
        framework: OpenVINO's word: "onnx", "tf", "tflite", "paddle", "pytorch", "ir".
        title: the format, for people.
        name: file name, name of the directory, or ``module:callable``.
        sha256: of the file and those that hold its weights, of all files of a directory in the order of their
            names; empty for a callable.
        path: the file or directory; None for a callable.
        program: the program that PyTorch loaded; None for other frameworks.
        asked: the arguments of `read_source`, with shapes as text; another process reads it by them.
    """

    model: ov.Model
    framework: str
    title: str
    name: str
    sha256: str
    path: Path | None
    program: Any = None
    asked: tuple[str, Mapping[str, str], tuple[str, ...]] = ("", {}, ())

    @classmethod
    def again(
        cls, asked: tuple[str, Mapping[str, str], tuple[str, ...]], weights: Path | None = None
    ) -> SourceModel:
        """Reads a source once more.

        Args:
            asked: as kept in the source that was read before.
            weights: of a module that a callable builds, as `save_weights` wrote them.

        Raises:
            CpuserveError: as for `read_source`.
        """
        text, shapes, outputs = asked
        found = read_source(text, {name: ov.PartialShape(shape) for name, shape in shapes.items()}, outputs)
        if weights is not None:
            from cpuserve.authoring import pytorch  # noqa: PLC0415 - imports torch, an extra

            pytorch.load_weights(found.program, weights)
        return found

    def save_weights(self, folder: Path) -> Path | None:
        """Writes the weights of a module that a callable built, which others of its may not be equal to.

        Returns:
            The file; None where the source is a file that holds its weights.
        """
        if self.path is not None or self.program is None:
            return None
        from cpuserve.authoring import pytorch  # noqa: PLC0415 - imports torch, an extra

        return pytorch.save_weights(self.program, folder)


def read_source(source: str, shapes: Shapes | None = None, outputs: Sequence[str] = ()) -> SourceModel:
    """Reads a file, the directory of a SavedModel, or the PyTorch module that ``module:callable`` builds.

    Args:
        source: path or ``module:callable``.
        shapes: shapes of inputs by name; the name "" is the only input.
        outputs: tensors to end the graph in; empty: the outputs of the source.

    Raises:
        UsageError: there is no such file or callable, or no tensor of a name in ``shapes`` or ``outputs``.
        ModelLoadError: the model cannot be read, holds NaN or text, or keeps a variable number of
            dimensions.
    """
    shapes = shapes or {}
    path = Path(source)
    if _CALLABLE.fullmatch(source) and not path.exists():
        from cpuserve.authoring import pytorch  # noqa: PLC0415 - imports torch, an extra

        program = pytorch.build_module(source)
        model = pytorch.graph_of(program, list(shapes.values()))
        found = SourceModel(model, "pytorch", "a PyTorch module", source, "", None, program)
    else:
        format_ = recognise(path)
        program, model = _import(path, format_, shapes, cut=bool(outputs))
        name = path.name or path.resolve().name
        found = SourceModel(model, format_.framework, format_.title, name, _sha256(path), path, program)
    _reshape(found, shapes)
    if outputs:
        found = dataclasses.replace(found, model=select(found.model, outputs))
        refuse_unknown_operations(found.model, found.name)
    asked = (source, {port: str(shape) for port, shape in shapes.items()}, tuple(outputs))
    found = dataclasses.replace(found, asked=asked)
    _refuse_text(found)
    _refuse_dynamic_rank(found)
    _refuse_nan(found)
    return found


def read_model(file: Path) -> ov.Model:
    """Reads the graph of a model file (not PyTorch's), or of the directory of a SavedModel.

    Uses the runtime's reader: `ov.convert_model` reports its use over the network unless the user has opted
    out.

    Raises:
        UsageError: there is no such file.
        ModelLoadError: the file is damaged or of an unknown format, or OpenVINO refuses it.
    """
    return _import(file, recognise(file))[1]


def input_shapes(words: Sequence[str]) -> dict[str, ov.PartialShape]:
    """Parses ``name[1,3,224,224]``, also several separated by commas; -1, ? and 1..8 are variable sides.

    The name may be left out for an only input; without a shape the name is only checked.

    Raises:
        UsageError: a word has another form.
    """
    found: dict[str, ov.PartialShape] = {}
    for part in [part.strip() for word in words for part in _BETWEEN.split(word)]:
        word = _INPUT.fullmatch(part)
        try:
            shape = ov.PartialShape(word[2] or "[...]") if word else None
        except (RuntimeError, ValueError, TypeError):
            shape = None
        if word is None or shape is None:
            raise UsageError(f"--input {part!r} is not NAME[1,3,224,224] (-1 for a variable side)")
        found[word[1].strip()] = shape
    return found


def names_in(model: ov.Model) -> list[str]:
    """Sorted names of the tensors of a graph; a tensor without a name has its operation's."""
    found: set[str] = set()
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Constant", "Result"):
            for port in node.outputs():
                found |= port.get_names() or {node.get_friendly_name()}
    return sorted(found)


def select(model: ov.Model, outputs: Sequence[str]) -> ov.Model:
    """A copy of a graph that ends in ``outputs``, in their order: tensor names, or names of operations.

    Raises:
        UsageError: no tensor has such a name; the message has similar ones.
    """
    copy = model.clone()
    ends = []
    for name in outputs:
        port = _port(copy, name)
        if not port.get_names():
            port.set_names({name})
        ends.append(port)
    needed = {node.get_friendly_name() for node in _upstream(ends)}
    inputs = [node for node in copy.get_parameters() if node.get_friendly_name() in needed]
    return ov.Model(ends, inputs, copy.get_friendly_name())


def _import(
    path: Path, format_: Format, shapes: Shapes | None = None, *, cut: bool = False
) -> tuple[Any, ov.Model]:
    if format_.framework == "pytorch":
        from cpuserve.authoring import pytorch  # noqa: PLC0415 - imports torch, an extra

        program = pytorch.load_archive(path, exported=format_ is EXPORTED)
        return program, pytorch.graph_of(program, [])
    return None, import_graph(path, format_, shapes, cut=cut)


def _port(model: ov.Model, name: str) -> ov.Output:
    plain = _PORT.sub("", name)
    by_operation = None
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Result":
            continue
        for port in node.outputs():
            names = port.get_names()
            if name in names or plain in {_PORT.sub("", other) for other in names}:
                return port
        if node.get_friendly_name() == name:
            by_operation = node.output(0)
    if by_operation is None:
        raise _unknown(
            "--output", name, names_in(model), "cpuserve cut cuts at the tensors of a TensorFlow graph"
        )
    return by_operation


def _upstream(ends: Sequence[ov.Output]) -> list[ov.Node]:
    """Every operation that the ends are computed from."""
    found: dict[str, ov.Node] = {}
    waiting = [port.get_node() for port in ends]
    while waiting:
        node = waiting.pop()
        if node.get_name() not in found:
            found[node.get_name()] = node
            waiting += [port.get_node() for port in node.input_values()]
    return list(found.values())


def _reshape(source: SourceModel, shapes: Shapes) -> None:
    model, wanted = source.model, {}
    for name, shape in shapes.items():
        if not name and len(model.inputs) > 1:
            raise UsageError(
                f"{source.name} has {len(model.inputs)} inputs: --input needs a name, as in NAME[1,3]"
            )
        port = model.input(0) if not name else _input(model, name)
        if shape.rank.is_static:
            wanted[port] = shape
    if not wanted:
        return
    try:
        model.reshape(wanted)
    except RuntimeError as error:
        said = ", ".join(f"{name}{shape}" for name, shape in shapes.items())
        raise ModelLoadError(f"{source.name} does not take --input {said}: {reason(error)}") from error


def _input(model: ov.Model, name: str) -> ov.Output:
    plain = _PORT.sub("", name)
    known = {}
    for port in model.inputs:
        for other in port.get_names() or {port.get_node().get_friendly_name()}:
            known[_PORT.sub("", other)] = port
    if plain not in known:
        raise _unknown("--input", name, sorted(known), "cpuserve cut makes an input of another tensor")
    return known[plain]


def _unknown(option: str, name: str, known: Sequence[str], hint: str) -> UsageError:
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    if not near:  # the last part of a long name is often what was meant
        near = [other for other in known if name.lower() in other.lower()][:5]
    there = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known[:8])}"
    return UsageError(f"{option} {name}: no tensor of that name; {there} ({hint})")


def _refuse_text(source: SourceModel) -> None:
    for kind, ports in (("input", source.model.inputs), ("output", source.model.outputs)):
        for port in ports:
            if port.element_type.get_type_name() == "string":
                name = next(iter(sorted(port.get_names())), port.get_node().get_friendly_name())
                raise ModelLoadError(
                    f"{kind} {name!r} of {source.name} is text (strings), which is not served: export the "
                    "network without the steps that read or write text, and do these in the client"
                )


def _refuse_dynamic_rank(source: SourceModel) -> None:
    for port in source.model.inputs:
        if port.partial_shape.rank.is_dynamic:
            name = next(iter(sorted(port.get_names())), port.get_node().get_friendly_name())
            raise ModelLoadError(
                f"input {name!r} of {source.name} has a variable number of dimensions (dynamic rank): "
                f"say its shape, as in --input {name}[1,3,224,224]"
            )
    for port in source.model.outputs:
        if port.partial_shape.rank.is_dynamic:
            raise ModelLoadError(
                f"output {sorted(port.get_names())} of {source.name} has a variable number of dimensions "
                "(dynamic rank): fix the inputs with --input NAME[...], or end before it with --output"
            )


def _refuse_nan(source: SourceModel) -> None:
    for node in source.model.get_ordered_ops():
        if node.get_type_name() != "Constant" or not node.get_element_type().is_real():
            continue
        values = node.data
        count = int(np.isnan(values.astype(np.float32, copy=False)).sum())
        if count:
            users = [target.get_node().get_friendly_name() for target in node.output(0).get_target_inputs()]
            raise ModelLoadError(
                f"{count} of the {values.size} weights {node.get_friendly_name()!r} of {source.name}, which "
                f"{users[0]!r} reads, are NaN: every answer would be; export it again from a training "
                "checkpoint that is sound"
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else files_of(path):
        if file.is_file():
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
