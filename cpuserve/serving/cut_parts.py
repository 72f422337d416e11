"""Head and tail of a cut model, loaded so that clients see the whole; the core is not theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov

from cpuserve.authoring.cut import is_identity
from cpuserve.errors import ModelFailed, ModelLoadError
from cpuserve.models import cut_manifest as cut_parts
from cpuserve.models.cut_manifest import IR, NONE, PYTHON, Parts
from cpuserve.models.repository import ModelFile
from cpuserve.serving.compiler import Compiler
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.graph import pass_through
from cpuserve.serving.part import GraphPart, Runner, chain, foreign, held

__all__ = ["Ends", "EndsLoader"]


@dataclass(frozen=True)
class Ends:
    """What of a cut model is not its core: what clients send and get, and how it becomes the core's.

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

    def answers(self, outputs: Sequence[Array]) -> Sequence[Array]:
        """The whole's outputs for the core's."""
        return outputs if self.tail is None else self.tail(outputs)


class EndsLoader:
    """Loads the head and the tail of one version; each is tried once with zeros.

    Args:
        file: the version.
        parts: what it is made of.
        compiler: compiles graphs as the core's is.
        allow_callables: whether Python functions may be named.

    Raises:
        ModelLoadError: a function is named and may not be.
    """

    def __init__(self, file: ModelFile, parts: Parts, compiler: Compiler, *, allow_callables: bool) -> None:
        self._folder = file.xml.parent
        self._parts = parts
        self._compiler = compiler
        for part in (parts.head, parts.tail):
            if part is not None and part.run == PYTHON and not allow_callables:
                raise ModelLoadError(
                    f"{file.name} runs the Python function {part.what}, which the setting `allow_callables` "
                    "does not allow: start with --allow-callables if whoever may write the model repository "
                    "may choose what runs here"
                )

    def front(self) -> ov.Model | None:
        """The graph that takes what clients send, or None where that is the core.

        Before a head that is no graph of OpenVINO it passes the whole's inputs on as they are; preparing it
        for pictures puts their type, mean, scale and layout there.
        """
        head = self._parts.head
        if head is None or head.run == NONE:
            return None
        if head.run == IR:
            return self._compiler.read(self._folder / head.what)
        return pass_through(self._parts.inputs)

    def head(self, front: ov.Model, wanted: Sequence[Port]) -> tuple[Sequence[Port], Runner | None]:
        """What clients send to ``front``, and what makes the core's inputs ``wanted`` of it.

        Raises:
            ModelLoadError: the head cannot be loaded, or gives other than the core takes.
        """
        graph = GraphPart(self._compiler.engine(front, [1]))
        part = self._parts.head
        other = None if part is None or part.run == IR else foreign(part, self._folder, wanted)
        runner = chain(None if is_identity(front) else graph, other)
        _try(runner, graph.engine.inputs, wanted, "head")
        return graph.engine.inputs, runner

    def tail(self, given: Sequence[Port]) -> tuple[Sequence[Port], Runner | None]:
        """What clients get, and what makes it of the core's outputs ``given``.

        Raises:
            ModelLoadError: the tail cannot be loaded, or gives other than the whole does.
        """
        part = self._parts.tail
        if part is None or part.run == NONE:
            return given, None
        runner: Runner
        if part.run == IR:
            graph = GraphPart(self._compiler.engine(self._compiler.read(self._folder / part.what), [1]))
            outputs, runner = graph.engine.outputs, graph
        else:
            outputs = [_port(port) for port in self._parts.outputs]
            runner = foreign(part, self._folder, outputs)
        _try(runner, given, outputs, "tail")
        return outputs, runner


def _port(port: cut_parts.Port) -> Port:
    return Port(port.names, port.element.to_dtype(), port.shape[1:])


def _try(runner: Runner | None, sent: Sequence[Port], wanted: Sequence[Port], what: str) -> None:
    """Run a head or tail with zeros, so that no request is its first, and hold it to what it has to give."""
    zeros = [np.zeros((1, *(max(side, 1) for side in port.row_shape)), port.dtype) for port in sent]
    try:
        found = zeros if runner is None else runner(zeros)
    except ModelLoadError:
        raise
    except ModelFailed as error:
        raise ModelLoadError(f"the {what} fails: {error}") from error
    except Exception as error:
        raise ModelLoadError(f"the {what} fails: {type(error).__name__}: {error}") from error
    held(found, wanted, 1, f"the {what}")
