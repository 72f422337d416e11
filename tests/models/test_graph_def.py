"""Frozen TensorFlow graphs: their inputs and outputs, and files that are damaged."""

from __future__ import annotations

import pytest

from cpuserve.errors import ModelLoadError
from cpuserve.models.graph_def import GraphDef

FILE = "deeplabv3_mnv2_dm05_257_frozen.pb"


def test_inputs_and_outputs_are_those_of_the_graph(data_dir):
    graph = GraphDef(data_dir / "models" / FILE)
    assert [graph.name(tensor) for tensor in graph.inputs] == ["ImageTensor:0"]
    assert [graph.name(tensor) for tensor in graph.outputs] == ["SemanticPredictions:0"]


def node(name, kind, *sources):
    """A NodeDef as bytes."""
    texts = [(1, name), (2, kind), *((3, source) for source in sources)]
    body = b"".join(bytes([number << 3 | 2, len(text)]) + text.encode() for number, text in texts)
    return bytes([0x0A, len(body)]) + body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x0a\xff\x01abc", "not a frozen TensorFlow graph"),  # promises 255 bytes
        (b"\x0b" + b"a" * 20, "not a frozen TensorFlow graph"),  # no such wire type
        (b"\x0a\x80", "not a frozen TensorFlow graph"),  # a length that does not end
        (node("a", "Relu", "b"), r"reads 'b', which it does not have"),
        (node("a", "Relu", "b") + node("b", "Relu", "a"), "has a loop at"),
        (b"\x0a\x03\x0a\x01a", "not a frozen TensorFlow graph"),  # a node without an operation
    ],
)
def test_files_that_are_no_graph(tmp_path, data, why):
    (tmp_path / "bad.pb").write_bytes(data)
    with pytest.raises(ModelLoadError, match=why):
        GraphDef(tmp_path / "bad.pb")


def test_a_truncated_graph(data_dir, tmp_path):
    (tmp_path / "short.pb").write_bytes((data_dir / "models" / FILE).read_bytes()[:-100])
    with pytest.raises(ModelLoadError, match=r"short.pb is not a frozen TensorFlow graph"):
        GraphDef(tmp_path / "short.pb")


def test_control_inputs_carry_no_tensor(tmp_path):
    graph = node("in", "Placeholder") + node("out", "Relu", "in", "^in") + node("idle", "NoOp", "^out")
    (tmp_path / "g.pb").write_bytes(graph)
    found = GraphDef(tmp_path / "g.pb")
    assert [found.name(tensor) for tensor in found.outputs] == ["out:0"]
