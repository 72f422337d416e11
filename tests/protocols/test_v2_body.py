"""Open Inference Protocol bodies, taken apart and put together."""

import json
import struct
import time
from functools import partial

import numpy as np
import orjson
import pytest

from cpuserve.errors import DeadlineExceeded, RequestError, TooManyElements
from cpuserve.protocols import json_body
from cpuserve.protocols.json_body import read_json
from cpuserve.protocols.tensor import datatype_of
from cpuserve.protocols.v2_body import infer_reply_body, parse_infer


def binary(document, *buffers):
    head = json.dumps(document).encode()
    return memoryview(head + b"".join(buffers)), str(len(head))


def entry(name="x", datatype="FP32", shape=(1, 2), **parameters):
    made = {"name": name, "datatype": datatype, "shape": list(shape)}
    return {**made, "parameters": parameters} if parameters else made


def test_tensors_follow_the_header_in_the_order_of_the_inputs():
    first, second = np.array([[1, 2]], np.float32), np.array([[3], [4]], np.int64)
    document = {
        "id": 7,
        "inputs": [
            entry("a", binary_data_size=8),
            {**entry("j", "UINT8"), "data": [[5, 6]]},
            entry("b", "INT64", (2, 1), binary_data_size=16),
        ],
    }
    asked = parse_infer(*binary(document, first.tobytes(), second.tobytes()))
    assert asked.id == "7"
    got = [tensor.array() for tensor in asked.inputs]
    assert [array.tolist() for array in got] == [[[1, 2]], [[5, 6]], [[3], [4]]]
    assert [array.dtype.name for array in got] == ["float32", "uint8", "int64"]


def test_a_lone_input_needs_no_size():
    asked = parse_infer(*binary({"inputs": [entry()]}, b"\0" * 8))
    assert asked.inputs[0].array().shape == (1, 2)


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT16", "UINT64", "FP16", "FP32", "FP64"])
def test_datatypes_there_and_back(datatype):
    asked = parse_infer(
        memoryview(json.dumps({"inputs": [{**entry("x", datatype, (2,)), "data": [1, 0]}]}).encode()), None
    )
    array = asked.inputs[0].array()
    assert datatype_of(array.dtype) == datatype
    assert array.tolist() == [1, 0]


def test_bytes_elements_carry_their_length():
    elements = [b"one", b"", b"three"]
    data = b"".join(struct.pack("<I", len(element)) + element for element in elements)
    asked = parse_infer(*binary({"inputs": [entry("x", "BYTES", (3,))]}, data))
    assert [bytes(element) for element in asked.inputs[0].elements()] == elements


@pytest.mark.parametrize(
    ("document", "buffers", "words"),
    [
        ({"inputs": [entry(binary_data_size=8)]}, b"\0" * 9, "1 bytes follow"),
        ({"inputs": [entry(binary_data_size=9)]}, b"\0" * 8, "8 bytes follow"),
        ({"inputs": [entry(binary_data_size=-1)]}, b"", "-1"),
        ({"inputs": [entry(binary_data_size="8")]}, b"\0" * 8, "'8'"),
        ({"inputs": [entry(binary_data_size=4)]}, b"\0" * 4, "takes 8 bytes, 4"),
        ({"inputs": [entry("x", "BYTES", (1,))]}, b"\x05\0\0\0abc", "5 bytes ends after 3"),
        ({"inputs": [entry("x", "BYTES", (1,))]}, b"\x05\0", "length of a BYTES"),
        ({"inputs": [entry("x", "BYTES", (2,))]}, b"\x01\0\0\0a", "1 elements"),
        ({"inputs": [entry("x", "FP32", (10**12, 10**12))]}, b"\0" * 8, "no array of shape"),
        ({"inputs": [entry("x", "FP32", (10**6, 10**6))]}, b"\0" * 8, "8 were sent"),
        (
            {"inputs": [{**entry(), "data": [1, 2], "parameters": {"binary_data_size": 8}}]},
            b"\0" * 8,
            "either",
        ),
        ({"inputs": [{**entry(), "data": [[1], [2, 3]]}]}, b"", "differ in length"),
        ({"inputs": [{**entry(), "data": [1, 2]}], "parameters": 3}, b"", "parameters"),
        ({"inputs": [entry()], "outputs": [{"nome": "y"}]}, b"\0" * 8, "outputs"),
        ({"inputs": [entry()], "outputs": 5}, b"\0" * 8, '"outputs" is a list'),
        ({"inputs": [entry()], "outputs": [{"name": "y"}] * 2}, b"\0" * 8, "'y' is asked for twice"),
        ({"inputs": [entry("x", "FP32", (0, 1 << 63), binary_data_size=0)]}, b"", "no array of shape"),
        ({"inputs": [entry("x", "FP32", (1 << 62, 1 << 62, 0), binary_data_size=0)]}, b"", "no array of"),
        ({"inputs": [{**entry(shape=[1] * 65), "data": [1]}]}, b"", "at most 64 dimensions"),
        ({"inputs": [{**entry(shape=[10**18] * 300), "data": [1]}]}, b"", "at most 64 dimensions"),
        ({"inputs": [{**entry(shape=[2**64 - 1] * 64), "data": [1]}]}, b"", "no array of shape"),
        ({"inputs": [{**entry("x", "BYTES", [2**64 - 1] * 64), "data": [""]}]}, b"", "no array of shape"),
        ({"inputs": [{**entry(shape=[-1]), "data": [1]}]}, b"", "whole numbers"),
        ({"inputs": [{**entry(shape=[1.0]), "data": [1]}]}, b"", "whole numbers"),
        ({"inputs": [{**entry(shape=[True]), "data": [1]}]}, b"", "whole numbers"),
        ({"inputs": [{**entry(shape=[10**30]), "data": [1]}]}, b"", "whole numbers"),
        ({"inputs": [entry(binary_data_size=10**17)]}, b"\0" * 8, "8 bytes follow"),
        ({"inputs": [entry("x", "BYTES", (1,))]}, b"\0\0\0\0" * 3, "more than 1 element"),
        ({"inputs": [{**entry("x", "BYTES", (1,)), "data": ["", ""]}]}, b"", "more than 1 element"),
        ({"inputs": [{**entry("n" * 2000), "data": [1, 2]}]}, b"", "1024 characters"),
        ({"inputs": [{**entry("x", "T" * 2000), "data": [1, 2]}]}, b"", "1024 characters"),
        ({"inputs": [entry()], "id": [1]}, b"\0" * 8, '"id"'),
        ({"inputs": [entry()], "id": "i" * 5000}, b"\0" * 8, '"id"'),
        ({"inputs": [entry()], "outputs": [{"name": "n" * 2000}]}, b"\0" * 8, "1024 characters"),
        (
            {"inputs": [entry()], "outputs": [{"name": str(n)} for n in range(2000)]},
            b"\0" * 8,
            "at most 1024 outputs",
        ),
        ({"inputs": [entry(binary_data_size=0)] * 2000}, b"", "at most 1024 inputs"),
        ({"inputs": [{**entry(), "data": [1e300, 1]}]}, b"", "do not fit into FP32"),
        ({"inputs": [{**entry("x", "UINT64"), "data": [1, -1]}]}, b"", "do not fit into UINT64"),
        ({"inputs": [{**entry(), "data": [1, "2"]}]}, b"", "are not FP32 numbers"),
        ({"inputs": [{**entry(), "data": [[1], 2]}]}, b"", "differ in length"),
        ({"inputs": [{**entry(), "data": json.loads("[" * 99 + "]" * 99)}]}, b"", "deeper than 64"),
        ({"inputs": [{**entry("x", "BYTES"), "data": ["aGk=", "\xfc"]}]}, b"", "base64"),
        ({"inputs": [{**entry("x", "BYTES"), "data": ["aGk=", True]}]}, b"", "base64"),
    ],
)
def test_what_is_wrong_is_named(document, buffers, words):
    with pytest.raises(RequestError) as caught:
        asked = parse_infer(*binary(document, buffers))
        for tensor in asked.inputs:
            tensor.elements() if tensor.datatype == "BYTES" else tensor.array()
    assert words in str(caught.value)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999", "", "\xb2", "9" * 5000])
def test_a_wrong_header_length_is_refused(length):
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        parse_infer(memoryview(b"{}"), length)


def big(values):
    return b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":%b}]}' % values


@pytest.mark.parametrize(
    "values",
    [
        b"[" + b"0," * 2000 + b"0]",
        b"[" + b"[]," * 1000 + b"[]]",
        b"[" + b'{"a":0},' * 700 + b"{}]",
    ],
    ids=["numbers", "lists", "objects"],
)
def test_json_of_too_many_values_is_refused_before_one_is_made(values, monkeypatch):
    body = memoryview(big(values))
    assert parse_infer(body, None, partial(read_json, max_elements=5000)).inputs
    monkeypatch.setattr(orjson, "loads", None)  # never reached
    with pytest.raises(TooManyElements) as caught:
        parse_infer(body, None, partial(read_json, max_elements=1500))
    for word in ("1500", "max_json_elements", "binary data"):
        assert word in str(caught.value)


def test_commas_of_a_binary_tensor_are_no_json_values():
    body, length = binary({"inputs": [entry(shape=(1, 2000))]}, b"," * 8000)
    assert parse_infer(body, length, partial(read_json, max_elements=500)).inputs[0].array().shape == (
        1,
        2000,
    )


def test_large_json_past_its_deadline_is_dropped_before_it_is_parsed(monkeypatch):
    body = memoryview(big(b"[" + b"0," * 100_000 + b"0]"))
    monkeypatch.setattr(orjson, "loads", None)
    with pytest.raises(DeadlineExceeded, match="deadline_ms"):
        parse_infer(body, None, partial(read_json, due=time.monotonic() - 1))


def test_large_json_whose_parsing_took_its_time_makes_no_array(monkeypatch):
    parse, clock = orjson.loads, [0.0]

    def slow(data):
        clock[0] = 20.0
        return parse(data)

    monkeypatch.setattr(json_body, "_now", lambda: clock[0])
    monkeypatch.setattr(orjson, "loads", slow)
    with pytest.raises(DeadlineExceeded):
        parse_infer(memoryview(big(b"[" + b"0," * 100_000 + b"0]")), None, partial(read_json, due=10.0))


def test_truth_values_are_numbers_of_any_width():
    body = json.dumps({"inputs": [{**entry("x", "UINT64"), "data": [True, False]}]}).encode()
    assert parse_infer(memoryview(body), None).inputs[0].array().tolist() == [[1, 0]]


def test_one_long_text_among_many_numbers_takes_no_memory_for_each_of_them():
    data = ["x" * 100_000, *([1] * 100_000)]  # NumPy would make room for 40 GB of text
    body = json.dumps({"inputs": [{**entry(shape=(100_001,)), "data": data}]}).encode()
    with pytest.raises(RequestError, match="are not FP32 numbers"):
        parse_infer(memoryview(body), None).inputs[0].array()


def test_nested_elements_come_in_order():
    data = [["YQ==", "Yg=="], ["Yw==", "ZA=="]]
    body = json.dumps({"inputs": [{**entry("x", "BYTES", (2, 2)), "data": data}]}).encode()
    assert parse_infer(memoryview(body), None).inputs[0].elements() == [b"a", b"b", b"c", b"d"]


def test_binary_and_json_outputs_together():
    scores, ids = np.array([[0.5, 0.25]], np.float32), np.array([3], np.int64)
    body, length = infer_reply_body({"model_name": "m"}, [("s", scores, True), ("i", ids, False)])
    document = json.loads(body[:length])
    assert document["outputs"] == [
        {"name": "s", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
        {"name": "i", "datatype": "INT64", "shape": [1], "data": [3]},
    ]
    assert np.frombuffer(body[length:], np.float32).tolist() == [0.5, 0.25]
    body, length = infer_reply_body({}, [("s", scores, False)])
    assert length is None
    assert json.loads(body)["outputs"][0]["data"] == [0.5, 0.25]


def test_whole_numbers_beyond_int64_are_those_that_were_sent():
    values = [0, (1 << 63) + 5, (1 << 64) - 1]
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [3], "datatype": "UINT64", "data": values}]}
    ).encode()
    assert parse_infer(memoryview(body), None).inputs[0].array().tolist() == values


@pytest.mark.parametrize(("value", "words"), [(-1, "do not fit"), (0.5, "are not UINT64 numbers")])
def test_beside_such_a_number_others_are_refused_as_ever(value, words):
    entry = {"name": "x", "shape": [2], "datatype": "UINT64", "data": [(1 << 63) + 5, value]}
    (tensor,) = parse_infer(memoryview(json.dumps({"inputs": [entry]}).encode()), None).inputs
    with pytest.raises(RequestError, match=words):
        tensor.array()
