"""Runs the head and the tail of a cut model, by OpenVINO, Python, onnxruntime or TensorFlow."""

from __future__ import annotations

import importlib
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.errors import ModelFailed, ModelLoadError, install_command, without_directories
from cpuserve.models.cut_manifest import IR, NONE, ONNX, PYTHON, TENSORFLOW, CutManifest, CutPart, CutPort
from cpuserve.models.graph_def import GraphDef
from cpuserve.models.repository import ModelFile
from cpuserve.serving.engine import Array, Engine, Port
from cpuserve.serving.graph import is_identity, pass_through

__all__ = ["CutParts", "CutPartsLoader", "GraphRunner", "Runner"]

_log = logging.getLogger("cpuserve.cut_parts")

Runner = Callable[[Sequence[Array]], Sequence[Array]]
"""Takes arrays [N, ...], one an input, gives arrays [N, ...], one an output; from several threads at once."""


@dataclass(frozen=True)
class CutParts:
    """The head and tail of a loaded cut model, and the inputs and outputs that clients see.

    Attributes:
        inputs: of the whole model.
        outputs: of the whole model.
        head: the whole's inputs to the core's; None where they are the same.
        tail: the core's outputs to the whole's; None where they are the same.
    """

    inputs: Sequence[Port]
    outputs: Sequence[Port]
    head: Runner | None
    tail: Runner | None

    def whole_outputs(self, outputs: Sequence[Array]) -> Sequence[Array]:
        """The outputs of the whole model for those of the core."""
        return outputs if self.tail is None else self.tail(outputs)


class CutPartsLoader:
    """Loads the head and the tail of one version, and runs each once with zeros.

    Args:
        file: the version.
        parts: its `cut.json`.
        read: reads a graph from its file.
        compiled: compiles a graph for one row, as the core is compiled.
        allow_callables: whether Python functions may be named.

    Raises:
        ModelLoadError: a Python function is named though `allow_callables` is off.
    """

    def __init__(
        self,
        file: ModelFile,
        parts: CutManifest,
        read: Callable[[Path], ov.Model],
        compiled: Callable[[ov.Model], Engine],
        *,
        allow_callables: bool,
    ) -> None:
        self._folder = file.xml.parent
        self._parts = parts
        self._read = read
        self._compiled = compiled
        self._made: dict[CutPart, Callable[..., Any]] = {}
        for part in (parts.head, parts.tail):
            if part is not None and part.run == PYTHON and not allow_callables:
                raise ModelLoadError(
                    f"{file.name} runs the Python function {part.what}, which the setting `allow_callables` "
                    "does not allow: start with --allow-callables if whoever may write the model repository "
                    "may choose what runs here"
                )

    def front(self) -> ov.Model | None:
        """The graph that gets what clients send; None where that is the core.

        For a head that is not an OpenVINO graph it passes the whole's inputs on. When it is prepared for
        pictures, their type, mean, scale and layout are put there.
        """
        head = self._parts.head
        if head is None or head.run == NONE:
            return None
        if head.run == IR:
            return self._read(self._folder / head.what)
        return pass_through(self._parts.inputs)

    def head(self, front: ov.Model, wanted: Sequence[Port]) -> tuple[Sequence[Port], Runner | None]:
        """The inputs of ``front``, and the runner from these to the core's inputs ``wanted``.

        Raises:
            ModelLoadError: the head cannot be loaded, or its outputs are not the core's inputs.
        """
        graph = GraphRunner(self._compiled(front))
        part = self._parts.head
        other = None if part is None or part.run == IR else _checking(self._run(part), part, wanted)
        runner = _chain(None if is_identity(front) else graph, other)
        _try(runner, graph.engine.inputs, wanted, "head")
        return _as_in_whole(graph.engine.inputs, self._parts.inputs), runner

    def tail(self, given: Sequence[Port]) -> tuple[Sequence[Port], Runner | None]:
        """The outputs that clients get, and the runner from the core's outputs ``given`` to these.

        Raises:
            ModelLoadError: the tail cannot be loaded, or its outputs are not those of the whole.
        """
        part = self._parts.tail
        if part is None or part.run == NONE:
            return _as_in_whole(given, self._parts.outputs if part is None else ()), None
        runner: Runner
        if part.run == IR:
            graph = GraphRunner(self._compiled(self._read(self._folder / part.what)))
            outputs, runner = graph.engine.outputs, graph
        else:
            run = self._run(part)
            outputs = [_port(port) for port in self._parts.outputs] or _found_outputs(run, part, given)
            runner = _checking(run, part, outputs)
        _try(runner, given, outputs, "tail")
        return _as_in_whole(outputs, self._parts.outputs), runner

    def _run(self, part: CutPart) -> Callable[..., Any]:
        """What runs a part that is not an IR; made once, for head and tail of the same class too."""
        if part not in self._made:
            make = {PYTHON: _function, ONNX: _onnx, TENSORFLOW: _tensorflow}[part.run]
            self._made[part] = make(part.what, self._folder)
        return self._made[part]


def _as_in_whole(ports: Sequence[Port], whole: Sequence[CutPort]) -> Sequence[Port]:
    """Rows of the same, with the names that the whole model shows before those of its parts."""
    names = [port.names for port in whole] if len(whole) == len(ports) else [()] * len(ports)
    return [
        Port(tuple(dict.fromkeys([*shown, *port.names])), port.dtype, port.row_shape)
        for port, shown in zip(ports, names, strict=True)
    ]


def _port(port: CutPort) -> Port:
    return Port(port.names, port.element.to_dtype(), port.shape[1:])


def _try(runner: Runner | None, sent: Sequence[Port], wanted: Sequence[Port], what: str) -> None:
    """Run a head or tail with zeros, so that no request is its first, and check what it gives."""
    zeros = [np.zeros((1, *(max(side, 1) for side in port.row_shape)), port.dtype) for port in sent]
    try:
        found = zeros if runner is None else runner(zeros)
    except ModelLoadError:
        raise
    except ModelFailed as error:
        raise ModelLoadError(f"the {what} fails: {error}") from error
    except Exception as error:
        raise ModelLoadError(f"the {what} fails: {type(error).__name__}: {error}") from error
    _checked(found, wanted, 1, f"the {what}")


class GraphRunner:
    """Runs a head or tail that is an OpenVINO graph, row by row.

    Args:
        engine: the graph, compiled for one row.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._idle: deque[Any] = deque()

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Outputs [N, ...] for inputs [N, ...]."""
        try:
            slot = self._idle.pop()
        except IndexError:  # as many as there are threads at the same time
            slot = self.engine.new_slot()
        found: list[list[Array]] = []
        try:
            for row in range(arrays[0].shape[0]):
                for target, array in zip(slot.inputs, arrays, strict=True):
                    target[0] = array[row]
                self.engine.run(slot, [(0, 1)])
                found.append([output.copy() for output in slot.outputs(0, 1)])
        finally:
            self._idle.append(slot)
        return [
            outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
            for outputs in zip(*found, strict=True)
        ]


def _checked(given: object, ports: Sequence[Port], count: int, what: str) -> list[Array]:
    """Check the arrays that a part gave, and bring them to the wanted type.

    Args:
        given: an array, several in a tuple or list, or by name in a dict.
        ports: the arrays that are wanted.
        count: rows.
        what: the part, for messages.

    Raises:
        ModelLoadError: their number, shape or type is wrong.
    """
    if isinstance(given, Mapping):
        missing = [port.names[0] for port in ports if port.names[0] not in given]
        if missing or len(given) != len(ports):
            names = ", ".join(map(str, given)) or "none"
            raise ModelLoadError(f"{what} gives {names}, not {', '.join(port.names[0] for port in ports)}")
        found = [given[port.names[0]] for port in ports]
    else:
        found = _listed(given)
    if len(found) != len(ports):
        raise ModelLoadError(f"{what} gives {len(found)} arrays, not {len(ports)}")
    arrays = []
    for array, port in zip(map(np.asarray, found), ports, strict=True):
        wanted = (count, *port.row_shape)
        fits = array.ndim == len(wanted) and all(
            side in (-1, own) for side, own in zip(wanted, array.shape, strict=True)
        )
        if not fits or not np.can_cast(array.dtype, port.dtype, "same_kind"):
            raise ModelLoadError(
                f"{what} gives {array.dtype.name}{list(array.shape)} for {port.names[0]!r}, which is "
                f"{port.dtype.name}{list(wanted)}"
            )
        arrays.append(array.astype(port.dtype, copy=False))
    return arrays


def _chain(first: Runner | None, second: Runner | None) -> Runner | None:
    """Run one after the other; None changes nothing."""
    if first is None or second is None:
        return first or second
    return lambda arrays: second(first(arrays))


def _found_outputs(run: Callable[..., Any], part: CutPart, given: Sequence[Port]) -> list[Port]:
    """The outputs that a step after a model gives for two rows of zeros.

    Raises:
        ModelLoadError: it fails, or gives something else than numbers [N, ...].
    """
    zeros = [np.zeros((2, *(max(side, 1) for side in port.row_shape)), port.dtype) for port in given]
    try:
        found = run(*zeros)
    except (Exception, SystemExit) as error:
        raise ModelLoadError(f"{part.what} fails with zeros: {type(error).__name__}: {error}") from error
    named = found if isinstance(found, Mapping) else None
    arrays = [*found.values()] if named is not None else _listed(found)
    names: list[tuple[str, ...]]
    if named is not None:
        names = [(str(name),) for name in named]
    elif len(arrays) == len(given):
        names = [port.names for port in given]
    else:
        names = [(f"output_{place}",) for place in range(len(arrays))]
    ports: list[Port] = []
    for shown, array in zip(names, map(np.asarray, arrays), strict=True):
        if array.dtype.kind not in "biuf" or array.ndim == 0 or array.shape[0] != 2:
            raise ModelLoadError(
                f"{part.what} gives {array.dtype.name}{list(array.shape)} for {shown[0]!r} and two rows; "
                "give numbers [2, ...]"
            )
        ports.append(Port(shown, array.dtype, array.shape[1:]))
    if not ports:
        raise ModelLoadError(f"{part.what} gives no arrays")
    return ports


def _listed(given: object) -> list[Any]:
    return list(given) if isinstance(given, (tuple, list)) else [given]


def _checking(run: Callable[..., Any], part: CutPart, ports: Sequence[Port]) -> Runner:
    """The runner of a part that is not an IR.

    Args:
        run: the part, as a function of arrays.
        part: what it is, for messages.
        ports: the arrays it has to give.

    Returns:
        It raises `ModelFailed` when the part itself fails.
    """

    def checked(arrays: Sequence[Array]) -> list[Array]:
        try:
            given = run(*arrays)
        except (Exception, SystemExit) as error:  # a part that ends its thread would end those it serves
            _log.exception("%s %s failed", part.run, part.what)
            raise ModelFailed(
                f"{part.run} {part.what} failed: {type(error).__name__}: {without_directories(str(error))}"
            ) from error
        return _checked(given, ports, arrays[0].shape[0], f"{part.run} {part.what}")

    return checked


def _function(what: str, _folder: Path) -> Callable[..., Any]:
    module, _, name = what.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelLoadError(
            f"{what} cannot be imported: {error}; install the module where cpuserve is, or set PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:
        raise ModelLoadError(f"{what} cannot be imported: {type(error).__name__}: {error}") from error
    if isinstance(found, type):  # one instance serves all requests of this process
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise ModelLoadError(f"{what}() fails: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ModelLoadError(f"{what} is not a function, nor a class with __call__")
    return found  # type: ignore[no-any-return]


def _onnx(what: str, folder: Path) -> Callable[..., Any]:
    try:
        import onnxruntime  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise ModelLoadError(f"{what} needs onnxruntime: {install_command('onnx')}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the serving threads are the seat's
    try:
        session = onnxruntime.InferenceSession(
            str(folder / what), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its own errors have no public base class
        raise ModelLoadError(f"onnxruntime cannot load {what}: {error}") from error
    names = [entry.name for entry in session.get_inputs()]

    def run(*arrays: Array) -> Any:
        return session.run(None, dict(zip(names, arrays, strict=True)))

    return run


def _tensorflow(what: str, folder: Path) -> Callable[..., Any]:
    try:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # which CPU instructions it would like to use
        import tensorflow as tf  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise ModelLoadError(f"{what} needs TensorFlow: {install_command('tensorflow')}") from error

    if tf.config.threading.get_intra_op_parallelism_threads() == 0:  # the serving threads are the seat's
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    definition = tf.compat.v1.GraphDef()
    try:
        graph = GraphDef(folder / what)
        definition.ParseFromString((folder / what).read_bytes())
        imported = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(definition, name=""), [])
        run = imported.prune(
            [imported.graph.get_tensor_by_name(graph.name(tensor)) for tensor in graph.inputs],
            [imported.graph.get_tensor_by_name(graph.name(tensor)) for tensor in graph.outputs],
        )
    except Exception as error:  # protobuf's and TensorFlow's errors have no common base class
        raise ModelLoadError(f"TensorFlow cannot load {what}: {error}") from error
    return lambda *arrays: [tensor.numpy() for tensor in run(*map(tf.constant, arrays))]
