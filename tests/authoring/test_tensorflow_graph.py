"""Frozen TensorFlow graphs cut by the names of their source, as the seed of this work did it."""

from __future__ import annotations

import pytest

from cpuserve.authoring.tensorflow_graph import FrozenGraph, split_frozen_graph
from cpuserve.errors import UsageError

FILE = "deeplabv3_mnv2_dm05_257_frozen.pb"
BRANCH = "MobilenetV2/expanded_conv_2/expand/Relu6"
SKIP = "MobilenetV2/expanded_conv_1/project/BatchNorm/FusedBatchNorm"


@pytest.fixture(scope="module")
def places(data_dir):
    return FrozenGraph(data_dir / "models" / FILE)


def ports(values):
    return [(*sorted(port.get_names()), str(port.get_partial_shape())) for port in values]


def test_the_cut_of_the_seed(places):
    found = split_frozen_graph(places, ["0:MobilenetV2/Conv/Conv2D"], ["ArgMax"])
    assert ports(found.head.inputs) == [("ImageTensor:0", "[1,257,257,3]")]
    assert ports(found.head.outputs) == ports(found.core.inputs) == [("sub_7:0", "[1,257,257,3]")]
    # the tail would only rename: the core answers under both names
    assert ports(found.core.outputs) == [("ArgMax:0", "SemanticPredictions:0", "[1,257,257]")]
    assert found.tail is None


def test_a_tail_knows_shape_and_type_of_what_it_gets(places):
    found = split_frozen_graph(places, [], ["ResizeBilinear_2"])
    assert found.head is None
    assert ports(found.tail.inputs) == [("ResizeBilinear_2:0", "[1,257,257,21]")]
    assert found.tail.output(0).get_element_type() == found.tail.output(0).get_element_type().i64


def test_a_branch_leaks_and_a_set_does_not(places):
    with pytest.raises(UsageError, match=f"leaks: {SKIP}:0 reaches the outputs"):
        split_frozen_graph(places, [BRANCH], ["ArgMax"])
    with pytest.raises(UsageError, match=f"leaks: {SKIP}:0 reaches the end of the model"):
        split_frozen_graph(places, [], [BRANCH])
    found = split_frozen_graph(places, [BRANCH, SKIP], ["ArgMax"])
    assert [names[0] for names in ports(found.core.inputs)] == [f"{BRANCH}:0", f"{SKIP}:0"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("MobilenetV2/Conv/Conv2d", "did you mean MobilenetV2/Conv/Conv2D"),
        ("0:MobilenetV2/Conv/Conv2d", "did you mean 0:MobilenetV2/Conv/Conv2D"),
        ("7:ArgMax", "no tensor '7:ArgMax'"),
        ("ArgMax:3", "no tensor 'ArgMax:3'; did you mean ArgMax"),
    ],
)
def test_a_name_that_is_none(places, name, near):
    with pytest.raises(UsageError, match=near):
        split_frozen_graph(places, [], [name])


def test_ends_that_are_the_graphs_own(places):
    with pytest.raises(UsageError, match="nothing is cut off"):
        split_frozen_graph(places, ["ImageTensor"], ["SemanticPredictions"])


def test_articulations_have_the_names_of_the_source(places):
    names = [places.name(tensor) for tensor in places.connectivity.articulations()]
    assert names[:5] == ["ImageTensor:0", "Cast:0", "mul:0", "sub_7:0", "MobilenetV2/Conv/Conv2D:0"]
    assert names[-2:] == ["ArgMax:0", "SemanticPredictions:0"]
    assert f"{BRANCH}:0" not in names
