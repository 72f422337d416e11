"""Reads the nodes of a frozen TensorFlow graph, and which tensors are its inputs and outputs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cpuserve.errors import ModelLoadError
from cpuserve.models.protobuf import fields

__all__ = ["GraphDef", "GraphTensor", "node_and_output"]

GraphTensor = tuple[int, int]
"""The place of a node, and which of its outputs."""


class _GraphNode(NamedTuple):
    name: str
    operation: str
    sources: tuple[str, ...]  # names of the tensors it reads


class GraphDef:
    """A frozen graph, its nodes in an order in which each follows those it reads.

    Args:
        file: a binary GraphDef.

    Attributes:
        file: the same.
        places: place of each node by its name.
        reads: the tensors each node reads, by place.
        live: of those, the ones that depend on an input; the others are constants.
        inputs: the placeholders.
        outputs: tensors that depend on an input and that no node reads.

    Raises:
        ModelLoadError: it is not a frozen graph.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._nodes = _ordered({node.name: node for node in _nodes(file)}, file)
        self.places = {node.name: place for place, node in enumerate(self._nodes)}
        self.reads: list[tuple[GraphTensor, ...]] = []
        self.live: list[tuple[GraphTensor, ...]] = []
        self.inputs: list[GraphTensor] = []
        alive, read = set(), set()
        for place, node in enumerate(self._nodes):
            tensors = tuple((self.places[name], port) for name, port in map(node_and_output, node.sources))
            found = tuple(tensor for tensor in tensors if tensor[0] in alive)
            read |= {tensor[0] for tensor in found}
            if node.operation == "Placeholder":
                self.inputs.append((place, 0))
            if found or node.operation == "Placeholder":
                alive.add(place)
            self.reads.append(tensors)
            self.live.append(found)
        self.outputs = [(place, 0) for place in sorted(alive - read)]

    def name(self, tensor: GraphTensor) -> str:
        """The name of a tensor in TensorFlow: its node's name and the number of the output."""
        return f"{self._nodes[tensor[0]].name}:{tensor[1]}"


def node_and_output(name: str) -> tuple[str, int]:
    """Node and number of the output of ``NODE`` or ``NODE:1``."""
    node, _, port = name.rpartition(":")
    return (node, int(port)) if node and port.isdigit() else (name, 0)


def _nodes(file: Path) -> Iterator[_GraphNode]:
    """The nodes of a GraphDef; control inputs (``^NODE``) carry no tensor and are left out."""
    try:
        data = file.read_bytes()
        stream = io.BytesIO(data)
        for number, start, end in _byte_fields(stream, 0, len(data)):
            if number == 1:
                texts = [
                    (inner, str(data[begin:stop], "utf-8"))
                    for inner, begin, stop in _byte_fields(stream, start, end)
                    if inner in (1, 2, 3)
                ]
                name, kind = (next(text for found, text in texts if found == inner) for inner in (1, 2))
                sources = tuple(text for inner, text in texts if inner == 3 and text[0] != "^")
                yield _GraphNode(name, kind, sources)
    except OSError as error:
        raise ModelLoadError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise ModelLoadError(f"{file.name} is not a frozen TensorFlow graph (a binary GraphDef)") from error


def _byte_fields(stream: io.BytesIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of the fields of a message that is complete."""
    for field in fields(stream, start, end):
        if not field.number or field.end > end:
            raise ValueError("damaged or cut short")
        yield field.number, field.start, field.end


def _ordered(nodes: dict[str, _GraphNode], file: Path) -> list[_GraphNode]:
    """Sort nodes so that each follows those it reads."""
    order: dict[str, None] = {}
    for first in nodes:
        todo = [first]
        while todo:
            name = todo[-1]
            if name not in nodes:
                raise ModelLoadError(f"{file.name} reads {name[:200]!r}, which it does not have")
            sources = map(node_and_output, nodes[name].sources)
            missing = next((source for source, _ in sources if source not in order), None)
            if missing is None:
                order[todo.pop()] = None
            elif missing in todo:
                raise ModelLoadError(f"{file.name} has a loop at {name}; only graphs without loops are cut")
            else:
                todo.append(missing)
    return [nodes[name] for name in order]
