"""A frozen TensorFlow graph cut at its own tensors, by the names of its source; it loads no TensorFlow.

OpenVINO's importer moves and fuses operations, so a converted graph has few of the source's names left. Its
front end can begin and end a conversion at a tensor, but lists no tensors: names and wiring are read from the
file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import openvino as ov
from openvino.frontend import FrontEndManager

from cpuserve.authoring.cut import CutModel, is_identity, leaks, unknown
from cpuserve.authoring.graph_connectivity import Connectivity, Tensor
from cpuserve.errors import ModelLoadError, UsageError

__all__ = ["FrozenGraph", "cut_places"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


class FrozenGraph:
    """The tensors of a frozen graph by name, and how they hang together.

    Args:
        file: a binary GraphDef.

    Raises:
        ModelLoadError: it is none.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._nodes = _ordered(dict(_nodes(file)), file)
        index = {name: place for place, (name, _, _) in enumerate(self._nodes)}
        inputs, live, read = set(), set(), set()
        self._reads: list[tuple[Tensor, ...]] = []
        reads: list[tuple[Tensor, ...]] = []
        for place, (_, kind, sources) in enumerate(self._nodes):
            tensors = tuple((index[name], port) for name, port in map(_tensor, sources))
            self._reads.append(tensors)
            found = tuple(tensor for tensor in tensors if tensor[0] in live)
            read |= {tensor[0] for tensor in found}
            if kind == "Placeholder":
                inputs.add(place)
            if found or kind == "Placeholder":
                live.add(place)
            reads.append(found)
        ends = sorted(live - read)
        self.inputs = [(place, 0) for place in sorted(inputs)]
        self.outputs = [(place, 0) for place in ends]
        # what nobody reads is what the model answers: a node without a name stands for the reader
        self.wiring = Connectivity(
            [*reads, *(((end, 0),) for end in ends)],
            frozenset(inputs),
            tuple(range(len(reads), len(reads) + len(ends))),
        )

    def name(self, tensor: Tensor) -> str:
        """What a tensor is called: its node's name and the number of the output, as in TensorFlow."""
        return f"{self._nodes[tensor[0]][0]}:{tensor[1]}"

    def find(self, name: str) -> Tensor:
        """The tensor of a name: ``NODE``, ``NODE:OUTPUT``, or ``INPUT:NODE`` for what the node reads there.

        Raises:
            UsageError: there is none; the message proposes near names.
        """
        places = {node: place for place, (node, _, _) in enumerate(self._nodes)}
        node, port = _tensor(name)
        if node in places and (port == 0 or any((places[node], port) in reads for reads in self._reads)):
            return places[node], port
        front, _, node = name.partition(":")
        if front.isdigit() and node in places and int(front) < len(self._reads[places[node]]):
            return self._reads[places[node]][int(front)]
        raise unknown(name, [f"0:{node}" for node in places] if front.isdigit() else places)

    def in_order_of(self, values: Sequence[ov.Output], tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors in the order that a converted graph has them in."""
        return [tensor for value in values for tensor in tensors if self.name(tensor) in value.get_names()]

    def convert(
        self,
        inputs: Sequence[Tensor] = (),
        outputs: Sequence[Tensor] = (),
        like: Sequence[ov.Output] = (),
    ) -> ov.Model:
        """The part of the graph from ``inputs`` to ``outputs`` as OpenVINO imports it.

        Args:
            inputs: where it begins; none: where the graph does.
            outputs: where it ends; none: where the graph does.
            like: one tensor an input, whose type and shape it takes: a part does not know them.

        Raises:
            ModelLoadError: OpenVINO refuses the graph.
        """
        try:
            front = FrontEndManager().load_by_framework("tf")
            source = front.load(str(self.file))
            begin, end = (
                [source.get_place_by_tensor_name(self.name(tensor)) for tensor in chosen]
                for chosen in (inputs, outputs)
            )
            if begin:
                source.override_all_inputs(begin)
            if end:
                source.override_all_outputs(end)
            for place, value in zip(begin, like, strict=False):
                source.set_element_type(place, value.get_element_type())
                source.set_partial_shape(place, value.get_partial_shape())
            model = front.convert(source)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelLoadError(f"OpenVINO cannot import this part of {self.file.name}: {reason}") from error
        return _in_order(model, [self.name(tensor) for tensor in inputs], [self.name(t) for t in outputs])


def cut_places(places: FrozenGraph, inputs: Sequence[str], outputs: Sequence[str]) -> CutModel:
    """Cuts a frozen graph in three at tensors of the source, such as ``0:MobilenetV2/Conv/Conv2D``.

    Args:
        places: of the graph.
        inputs: tensors where the core begins; none: it begins where the graph does.
        outputs: tensors where it ends; none: it ends where the graph does.

    Raises:
        UsageError: no such tensor, or a cut that leaks.
        ModelLoadError: OpenVINO refuses a part.
    """
    starts = list(dict.fromkeys(map(places.find, inputs))) or places.inputs
    ends = list(dict.fromkeys(map(places.find, outputs))) or places.outputs
    wiring = places.wiring
    named = {tensor: places.name(tensor) for tensors in wiring.reads for tensor in tensors}
    problem = leaks(wiring.divide(starts, ends), named)
    if problem is not None:
        raise problem
    headless, tailless = {*starts} == {*places.inputs}, {*ends} == {*places.outputs}
    if headless and tailless:
        raise UsageError("nothing is cut off: these inputs and outputs are the model's own")
    whole = places.convert()
    if headless:
        starts = places.in_order_of(whole.inputs, starts)
    if tailless:
        ends = places.in_order_of(whole.outputs, ends)
    head = None if headless else places.convert(outputs=starts)
    given = whole.inputs if head is None else head.outputs
    core = places.convert([] if headless else starts, ends, given)
    tail = None if tailless else places.convert(ends, like=core.outputs)
    if tail is not None and is_identity(tail):
        tail = None  # the end of the graph only gives the core's outputs other names
    if tail is None:
        for ours in core.outputs:
            for theirs in whole.outputs:
                if ours.get_names() & theirs.get_names():
                    ours.get_tensor().set_names(ours.get_names() | theirs.get_names())
    return CutModel(head, core, tail)


def _in_order(model: ov.Model, inputs: Sequence[str], outputs: Sequence[str]) -> ov.Model:
    """The importer keeps no order: bring inputs and outputs into the one that was asked for."""
    if not inputs and not outputs:
        return model
    parameters = [model.input(name).get_node() for name in inputs] or model.get_parameters()
    results = [model.output(name).get_node() for name in outputs] or model.get_results()
    return ov.Model(results, parameters, model.get_friendly_name())


def _tensor(name: str) -> tuple[str, int]:
    """Node and number of the output of ``NODE`` or ``NODE:1``."""
    node, _, port = name.rpartition(":")
    return (node, int(port)) if node and port.isdigit() else (name, 0)


Node = tuple[str, str, tuple[str, ...]]  # name, operation, tensors read


def _nodes(file: Path) -> Iterator[tuple[str, Node]]:
    """The nodes of a GraphDef; control inputs (``^NODE``) carry no tensor and are left out."""
    try:
        data = memoryview(file.read_bytes())
        for field, content in _fields(data):
            if field == 1:
                parts = [(number, part) for number, part in _fields(content) if number in (1, 2, 3)]
                texts = [(number, str(part, "utf-8")) for number, part in parts]
                name, kind = (next(text for found, text in texts if found == number) for number in (1, 2))
                sources = tuple(text for number, text in texts if number == 3 and text[0] != "^")
                yield name, (name, kind, sources)
    except OSError as error:
        raise ModelLoadError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise ModelLoadError(f"{file.name} is no frozen TensorFlow graph (a binary GraphDef)") from error


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message that hold bytes, by number; see protobuf.dev/programming-guides/encoding."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("no such wire type")
        if at + size > len(data):
            raise ValueError("cut short")
        if kind == _BYTES:
            yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7


def _ordered(nodes: dict[str, Node], file: Path) -> list[Node]:
    """Nodes behind all they read."""
    order: dict[str, None] = {}
    for first in nodes:
        todo = [first]
        while todo:
            name = todo[-1]
            if name not in nodes:
                raise ModelLoadError(f"{file.name} reads {name[:200]!r}, which it does not have")
            missing = next(
                (source for source, _ in map(_tensor, nodes[name][2]) if source not in order), None
            )
            if missing is None:
                order[todo.pop()] = None
            elif missing in todo:
                raise ModelLoadError(f"{file.name} has a loop at {name}; only graphs without loops are cut")
            else:
                todo.append(missing)
    return [nodes[name] for name in order]
