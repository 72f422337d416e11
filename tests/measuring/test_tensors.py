"""Made tensors: what they hold is what the server's own parser reads; what cannot be made is refused."""

import numpy as np
import pytest

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.measuring.load_window import Target
from cpuserve.measuring.tensors import infer_body, tensors
from cpuserve.protocols.v2_body import parse_infer
from tests.measuring.conftest import plain  # noqa: F401  # a fixture


def test_a_body_is_an_infer_request_of_the_batch_that_was_asked_for():
    inputs = [
        {"name": "a", "datatype": "FP32", "shape": [-1, 3, 4]},
        {"name": "b", "datatype": "UINT8", "shape": [-1]},
    ]
    body, length = infer_body(inputs, 2)
    asked = parse_infer(memoryview(body), str(length))
    first, second = (tensor.array() for tensor in asked.inputs)
    assert (first.shape, first.dtype, second.shape, second.dtype) == ((2, 3, 4), np.float32, (2,), np.uint8)
    assert asked.binary
    assert first.std() > 10
    assert infer_body(inputs, 2) == (body, length)


def test_a_model_without_a_batch_is_sent_its_own_shapes():
    inputs = [
        {"name": "picture", "datatype": "FP32", "shape": [3, 4, 4]},
        {"name": "threshold", "datatype": "FP32", "shape": []},
    ]
    body, length = infer_body(inputs, 1)
    asked = parse_infer(memoryview(body), str(length))
    assert [tensor.array().shape for tensor in asked.inputs] == [(3, 4, 4), ()]
    with pytest.raises(UsageError, match="no batch, so a request cannot have 2 rows"):
        infer_body(inputs, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a", "datatype": "BYTES", "shape": [-1]},
        {"name": "a", "datatype": "FP32", "shape": [-1, 3, -1, -1]},
    ],
)
def test_an_input_that_leaves_open_what_to_send_is_refused(wrong):
    with pytest.raises(UsageError, match="no tensor can be made"):
        infer_body([wrong], 1)


def test_a_server_that_does_not_tell_its_inputs_is_named(plain):  # noqa: F811  # the fixture
    target = Target("127.0.0.1", plain.server_port, "/v2/models/m/infer")
    with pytest.raises(CpuserveError, match="/v2/models/m answered 501"), tensors(target, 1):
        pass
