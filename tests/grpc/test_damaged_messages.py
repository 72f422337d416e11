"""Messages that were damaged at random are answered or refused, in the parser and by a whole server."""

from __future__ import annotations

import random

import grpc
import numpy as np
import pytest

from cpuserve.errors import CpuserveError
from cpuserve.grpc.infer_message import InferMessage
from cpuserve.grpc.messages import message_class
from cpuserve.grpc.tensorflow_serving import TensorFlowService
from cpuserve.protocols.call import Call
from tests.grpc.running import WAIT_S, full_name, serving_grpc
from tests.protocols.fakes import Pool

Request = message_class("inference.ModelInferRequest")
PredictRequest = message_class("tensorflow.serving.PredictRequest")
ROWS = np.ones((2, 3), np.float32)
SHAPE = {"dim": [{"size": 2}, {"size": 3}]}
INFER = [
    Request(
        model_name="m",
        id="1",
        parameters={"priority": {"uint64_param": 2}, "timeout": {"int64_param": 5_000_000}},
        inputs=[
            {"name": "a", "datatype": "FP32", "shape": [2, 3]},
            {"name": "b", "datatype": "UINT8", "shape": [2, 3]},
        ],
        outputs=[{"name": "sum", "parameters": {"classification": {"int64_param": 2}}}],
        raw_input_contents=[ROWS.tobytes(), bytes(6)],
    ).SerializeToString(),
    Request(
        model_name="m",
        inputs=[
            {"name": "a", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"x", b"yy"]}}
        ],
    ).SerializeToString(),
]
PREDICT = PredictRequest(
    model_spec={"name": "m", "version": {"value": 2}},
    inputs={
        "a": {
            "dtype": 1,
            "tensor_shape": {"dim": [{"size": 2}, {"size": 3}]},
            "tensor_content": ROWS.tobytes(),
        },
        "b": {"dtype": 4, "tensor_shape": SHAPE, "int_val": [1] * 6},
    },
    output_filter=["sum"],
).SerializeToString()


def damaged(data, chance):
    """A copy with some bytes changed, put in, left out, or repeated."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(4):
            case 0 if at < len(made):
                made[at] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
            case 1:
                made[at:at] = chance.randbytes(chance.randrange(8))
            case 2:
                del made[at : at + chance.randrange(8)]
            case _:
                made[at:at] = made[max(0, at - 12) : at] * chance.randrange(3)
    return bytes(made)


@pytest.mark.parametrize("whole", INFER)
def test_the_parser_of_infer_requests_refuses_and_never_fails(whole):
    chance, refused = random.Random(7), 0  # noqa: S311  # no secret
    for _ in range(4000):
        data = damaged(whole, chance)
        try:
            for tensor in InferMessage.read(data).body(1000).inputs:
                tensor.elements() if tensor.datatype == "BYTES" else tensor.array()
        except CpuserveError:
            refused += 1
    assert 1000 < refused < 4000


def test_the_parser_of_predict_requests_refuses_and_never_fails(caplog):
    (predict, *_) = TensorFlowService(Pool()).methods()
    chance, codes = random.Random(7), []  # noqa: S311  # no secret
    for _ in range(2000):
        try:
            reply = predict.read(damaged(PREDICT, chance)).handler(Call("POST", "/"))
            codes.append(reply.refusal.grpc_code if reply.refusal else "OK")
        except CpuserveError as error:
            codes.append(error.grpc_code)
    assert {"OK", "INVALID_ARGUMENT"} <= set(codes)
    assert "INTERNAL" not in codes, caplog.text


def test_a_server_answers_every_damaged_message_and_serves_on(caplog):
    chance, codes = random.Random(8), []  # noqa: S311  # no secret
    with serving_grpc() as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        futures = [call.future(damaged(chance.choice(INFER), chance), timeout=WAIT_S) for _ in range(60)]
        for _ in range(10):
            codes += [future.code().name for future in futures]
            futures = [call.future(damaged(chance.choice(INFER), chance), timeout=WAIT_S) for _ in range(40)]
        codes += [future.code().name for future in futures]
        assert call(INFER[0], timeout=WAIT_S)
        assert one.transport.budget.held == 0
    assert {"OK", "INVALID_ARGUMENT"} <= set(codes)
    assert not {"INTERNAL", "UNKNOWN", "CANCELLED"} & set(codes), caplog.text
