"""ModelInferRequest becomes tensors, in all forms of values; what the protocol does not say is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.errors import RequestError, TooManyElements
from cpuserve.grpc.infer_message import InferMessage, infer_response
from cpuserve.grpc.inference import InferenceService
from cpuserve.grpc.messages import message_class
from cpuserve.protocols.admin import Admin
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.trace_ring import TraceRing
from tests.protocols.fakes import Pool

Request = message_class("inference.ModelInferRequest")
Response = message_class("inference.ModelInferResponse")
MOST = 1000


def message(*inputs, raw=(), **more):
    return Request(model_name="m", inputs=inputs, raw_input_contents=raw, **more)


def entry(name="a", datatype="FP32", shape=(2, 2), **contents):
    made = {"name": name, "datatype": datatype, "shape": shape}
    return {**made, "contents": contents} if contents else made


def body(sent, most=MOST):
    return InferMessage.read(sent.SerializeToString()).body(most)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-5, 5]),
        ("INT32", "int_contents", [-(1 << 31), 7]),
        ("INT64", "int64_contents", [-(1 << 63), 7]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, (1 << 32) - 1]),
        ("UINT64", "uint64_contents", [0, (1 << 63) + 5]),
        ("FP32", "fp32_contents", [1.5, -2.25]),
        ("FP64", "fp64_contents", [0.1, 1e300]),
    ],
)
def test_typed_contents(datatype, field, values):
    (tensor,) = body(message(entry("a", datatype, (2,), **{field: values}))).inputs
    array = tensor.array()
    assert array.tolist() == values
    assert tensor.shape == (2,)


def test_numbers_one_by_one_are_the_same_as_packed_ones():
    packed = message(entry("a", "FP32", (2,), fp32_contents=[1.5, 2.5])).SerializeToString()
    eight = np.array([1.5, 2.5], "<f4").tobytes()
    alone = packed.replace(b"\x32\x08" + eight, b"\x35" + eight[:4] + b"\x35" + eight[4:])
    assert len(alone) == len(packed)  # two numbers of fields instead of one and a length
    (tensor,) = InferMessage.read(alone).body(MOST).inputs
    assert tensor.array().tolist() == [1.5, 2.5]


def with_contents(datatype, shape, contents):
    """A request whose only input has these bytes as ``contents``."""
    described = message(entry("a", datatype, shape)).inputs[0].SerializeToString()
    return Request(model_name="m").SerializeToString() + field(5, described + field(5, contents))


def field(number, value):
    assert len(value) < 128
    return bytes((number << 3 | 2, len(value))) + value


def test_a_field_stored_in_another_way_is_an_unknown_one():
    four = np.array([1.5], "<f4").tobytes()
    sent = with_contents("FP32", (1,), bytes((6 << 3, 7)) + field(6, four))
    (tensor,) = InferMessage.read(sent).body(MOST).inputs
    assert tensor.array().tolist() == [1.5]
    assert InferMessage.read(with_contents("BYTES", (1,), b"\x40\7" + field(8, b"x"))).body(MOST).inputs[
        0
    ].elements() == [b"x"]
    with pytest.raises(RequestError, match="expected in fp64_contents, which is empty"):
        InferMessage.read(with_contents("FP64", (1,), bytes((7 << 3 | 5,)) + four)).body(MOST)


@pytest.mark.parametrize(("datatype", "number", "size"), [("FP32", 6, 4), ("FP64", 7, 8)])
def test_packed_numbers_that_end_inside_a_number_are_refused(datatype, number, size):
    split = field(number, bytes(size + 1)) + field(number, bytes(size - 1))
    with pytest.raises(RequestError, match=f"'a': {datatype.lower()}_contents ends inside a number"):
        InferMessage.read(with_contents(datatype, (2,), split)).body(MOST)


def test_raw_contents_go_to_inputs_in_their_order_and_those_in_shared_memory_need_none():
    first, last = np.arange(4, dtype=np.float32), np.arange(2, dtype=np.float16)
    place = {
        "shared_memory_region": {"string_param": "r"},
        "shared_memory_byte_size": {"int64_param": 4},
    }
    shared = {**entry("b", "INT32", (1,)), "parameters": place}
    sent = message(entry("a"), shared, entry("c", "FP16", (2,)), raw=[first.tobytes(), last.tobytes()])
    a, b, c = body(sent).inputs
    assert a.array().tolist() == [[0, 1], [2, 3]]
    assert c.array().tolist() == [0, 1]
    assert b.place.region == "r"


@pytest.mark.parametrize("raw", [True, False])
def test_pictures(raw):
    pictures = [b"first", b"", b"third"]
    prefixed = b"".join(len(one).to_bytes(4, "little") + one for one in pictures)
    sent = (
        message(entry("a", "BYTES", (3,)), raw=[prefixed])
        if raw
        else message(entry("a", "BYTES", (3,), bytes_contents=pictures))
    )
    (tensor,) = body(sent).inputs
    assert [bytes(one) for one in tensor.elements()] == pictures


def test_parameters_outputs_and_id():
    sent = message(
        entry("a", "BOOL", (1,), bool_contents=[True]),
        id="77",
        parameters={"priority": {"uint64_param": 2}, "timeout": {"int64_param": 5}, "empty": {}},
        outputs=[{"name": "x", "parameters": {"classification": {"int64_param": 3}}}, {"name": "y"}],
    )
    read = InferMessage.read(sent.SerializeToString())
    assert read.structure.parameters == {"priority": 2, "timeout": 5}
    assert (read.structure.priority, read.structure.timeout_s) == (2, 5e-6)
    asked = read.body(MOST)
    assert asked.id == "77"
    assert [(one.name, one.binary, one.classification) for one in asked.outputs] == [
        ("x", True, 3),
        ("y", True, 0),
    ]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (message(), "at least one of inputs"),
        (message(entry()), "'a' has neither contents nor one of raw_input_contents"),
        (message(entry(), raw=[b"x", b"y"]), "2 raw_input_contents, 1 more than inputs"),
        (
            message(entry(fp32_contents=[1]), raw=[b"x"]),
            "contents field must not be specified when using raw_input_contents for 'a' for model 'm'",
        ),
        (message(entry(shape=[-1, 4]), raw=[b"x"]), r"whole numbers, not \[-1, 4\]"),
        (message(entry(shape=[1] * 65), raw=[b"x"]), "65 sizes"),
        (message(entry("n" * 2000), raw=[b"x"]), "at most 1024 characters"),
        (message(entry("a", "FP16", (1,), fp32_contents=[1])), "'FP16' has no contents"),
        (message(entry("a", "INT32", (1,), fp32_contents=[1])), "of INT32 are expected in int_contents"),
        (message(entry("a", "FP32", (1,), int_contents=[1])), "of FP32 are expected in fp32_contents"),
        (message(entry("a", "BYTES", (1,), int_contents=[1])), "of BYTES are expected in bytes_contents"),
        (message(entry(), raw=[b"x"], id="i" * 5000), "id is text of at most 4096"),
        (message(entry(), raw=[b"x"], outputs=[{"name": "x"}] * 2), "'x' is asked for twice"),
        (
            message(
                entry(),
                raw=[b"x"],
                outputs=[{"name": "x", "parameters": {"classification": {"string_param": "2"}}}],
            ),
            "is a number of classes",
        ),
        (message(*[entry()] * 1025, raw=[b"x"]), "1025 inputs"),
        (message(entry(), raw=[b"x"] * 1025), "1025 raw_input_contents"),
        (message(entry(), raw=[b"x"], parameters={"x" * (1 << 20): {}}), "beside the values"),
        (message(entry("a" * (1 << 20)), raw=[b"x"]), "beside the values"),
    ],
)
def test_what_the_protocol_does_not_say_is_refused(sent, words):
    with pytest.raises(RequestError, match=words):
        body(sent)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (message(entry("a", "INT8", (1,), int_contents=[128])), "do not fit into INT8"),
        (message(entry("a", "FP32", (2, 2), fp32_contents=[1, 2])), "takes 16 bytes, 8 were sent"),
        (message(entry("a", "INT32", (2, 2), int_contents=[1, 2])), "takes 4 values, 2 were sent"),
    ],
)
def test_values_that_do_not_fill_the_shape_are_refused(sent, words):
    (tensor,) = body(sent).inputs
    with pytest.raises(RequestError, match=words):
        tensor.array()


def test_more_numbers_than_are_allowed_are_refused_by_the_setting():
    with pytest.raises(TooManyElements, match=r"11 numbers.*10 .setting max_json_elements"):
        body(message(entry("a", "INT32", (11,), int_contents=[1] * 11)), most=10)


@pytest.mark.parametrize("datatype", ["INT32", "INT64", "BOOL"])
def test_the_numbers_of_all_inputs_are_counted_together(datatype):
    field = {"INT32": "int_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}[datatype]
    inputs = [entry(name, datatype, (5,), **{field: [1] * 5}) for name in "abc"]
    assert len(body(message(*inputs), most=15).inputs) == 3
    with pytest.raises(TooManyElements, match=r"input 'c': 5 numbers .* all inputs together may have 14"):
        body(message(*inputs), most=14)


def test_numbers_are_counted_before_they_are_made(monkeypatch):
    long = [1 << 40, 0, 300] * 4  # more bytes than numbers
    sent = message(entry("a", "INT64", (12,), int64_contents=long))
    assert body(sent, most=12).inputs[0].array().tolist() == long
    monkeypatch.setattr("cpuserve.grpc.infer_message.parse", None)
    with pytest.raises(TooManyElements, match="12 numbers"):
        body(sent, most=11)


@pytest.mark.parametrize("raw", [True, False])
def test_pictures_in_several_inputs_are_refused(raw):
    pictures = [entry(name, "BYTES", (1,), **({} if raw else {"bytes_contents": [b"x"]})) for name in "ab"]
    with pytest.raises(RequestError, match=r"input 'a': BYTES are pictures, .* only input of a request"):
        body(message(*pictures, raw=[b"\1\0\0\0x"] * 2 if raw else ())).inputs[0].array()


def test_contents_twice_are_refused():
    sent = message(entry("a", "BOOL", (1,), bool_contents=[True])).SerializeToString()
    contents = b"\x2a\x03\x0a\x01\x01"
    assert contents in sent
    head = sent[: sent.index(b"\x2a")]
    whole = sent[len(head) + 2 :]
    twice = head + b"\x2a" + bytes([len(whole) + len(contents)]) + whole + contents
    with pytest.raises(RequestError, match="contents twice"):
        InferMessage.read(twice).body(MOST)


def test_the_answer_holds_raw_values_and_text_behind_its_length():
    text = np.array([["0.5:1:cat"]], dtype=object)
    data = infer_response(
        *(("m", "2"), "é7"),
        [("x", np.ones((1, 2), np.float32), True), ("classes", text, True)],
    )
    answer = Response.FromString(data)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "2", "é7")
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
        ("x", "FP32", [1, 2]),
        ("classes", "BYTES", [1, 1]),
    ]
    assert answer.raw_output_contents == [b"\0\0\x80?" * 2, b"\x09\0\0\x000.5:1:cat"]


def test_requests_that_differ_in_values_and_id_only_are_read_once():
    def read(identity, values):
        sent = message(entry("a", "FP32", (2,)), raw=[values], id=identity)
        return InferMessage.read(sent.SerializeToString())

    first, second = read("1", b"\1" * 8), read("2", b"\2" * 8)
    assert second.structure is first.structure
    assert (first.id, second.id) == ("1", "2")
    (one,), (other,) = first.body(MOST).inputs, second.body(MOST).inputs
    assert (bytes(one.data), bytes(other.data)) == (b"\1" * 8, b"\2" * 8)
    another = message(entry("a", "FP32", (1, 2)), raw=[b"\1" * 8])
    assert InferMessage.read(another.SerializeToString()).body(MOST).inputs[0].shape == (1, 2)


def test_a_long_structure_is_not_kept():
    sent = message(entry("a" * 200, "FP32", (1,) * 60), parameters={"note": {"string_param": "x" * 5000}})
    data = sent.SerializeToString()
    assert InferMessage.read(data).structure is not InferMessage.read(data).structure


def test_an_id_that_is_no_text_is_refused():
    with pytest.raises(RequestError, match=r"no inference\.ModelInferRequest"):
        InferMessage.read(b"\x1a\x01\xff")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 70_000])
def test_an_answer_of_any_size_is_a_message(size):
    data = infer_response(*(("m", "1"), ""), [("x", np.ones((size,), np.uint8), True)])
    answer = Response.FromString(data)
    assert answer.raw_output_contents == [b"\1" * size]
    assert list(answer.outputs[0].shape) == [size]


def test_values_that_lie_across_in_memory_are_answered_row_by_row():
    values = np.arange(6, dtype=np.int32).reshape(3, 2).T
    answer = Response.FromString(infer_response(("m", "1"), "", [("x", values, True)]))
    assert np.frombuffer(answer.raw_output_contents[0], np.int32).tolist() == [0, 2, 4, 1, 3, 5]
    texts = np.array([["a", "b"], ["c", "d"]], object).T
    answer = Response.FromString(infer_response(("m", "1"), "", [("x", texts, True)]))
    assert answer.raw_output_contents[0].replace(b"\1\0\0\0", b"") == b"acbd"


def test_a_short_request_is_read_once_and_a_long_one_each_time():
    service = InferenceService(Pool(), Admin(None, LogSwitches("info"), TraceRing(rows=1)))
    (read,) = (one.read for one in service.methods() if one.name.endswith("/ModelInfer"))
    short = message(entry("a", "BYTES", (1,)), raw=[b"\1\0\0\0x"], id="7").SerializeToString()
    assert read(short) is read(bytes(bytearray(short)))
    long = message(entry("a", "UINT8", (2000,)), raw=[bytes(2000)]).SerializeToString()
    assert read(long) is not read(long)
    assert read(long).shared_bytes == 0
    place = {"shared_memory_region": {"string_param": "r"}, "shared_memory_byte_size": {"int64_param": 2}}
    placed = message({**entry("a", "UINT8", (2,)), "parameters": place})
    assert read(placed.SerializeToString()).shared_bytes == 2


def test_it_is_known_whether_a_request_brings_values():
    place = {"shared_memory_region": {"string_param": "r"}, "shared_memory_byte_size": {"int64_param": 2}}
    placed = message({**entry("a", "UINT8", (2,)), "parameters": place})
    read = InferMessage.read(placed.SerializeToString())
    assert (read.has_values, read.shared_bytes()) == (False, 2)
    wrong = message({**entry("a", "UINT8", (2,)), "parameters": {"shared_memory_region": {"int64_param": 1}}})
    assert InferMessage.read(wrong.SerializeToString()).shared_bytes() == 0
    for sent in (
        message(entry("a", "UINT8", (2,)), raw=[b"12"]),
        message({**entry("a", "UINT8", (2,)), "contents": {"uint_contents": [1, 2]}}),
    ):
        assert InferMessage.read(sent.SerializeToString()).has_values


def _read(data):
    """What a request says, whatever was kept before."""
    found = InferMessage.read(data)
    return found.structure, found.id, [*found.contents], [bytes(one) for one in found.raw]


def test_of_a_message_that_begins_as_one_before_only_the_values_are_read(monkeypatch):
    def sent(value, size=2000):
        return message(entry("a", "UINT8", (size,)), raw=[value * size]).SerializeToString()

    first = _read(sent(b"\1"))
    monkeypatch.setattr(InferMessage, "_read", None)  # would fail
    second = _read(sent(b"\2"))
    assert second[0] is first[0]
    assert second[1:] == ("", [None], [b"\2" * 2000])
    assert _read(sent(b"\3")[: -2000 - 3] + b"\x3a\xd0\x86\x03" + b"\3" * 50_000)[3] == [b"\3" * 50_000]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\x1a\x011",  # an id behind the values
        lambda data: data + b"\x3a\x01x",  # further values
        lambda data: data + b"\x32\x03\x0a\x01y",  # an output
        lambda data: b"\x1a\x017" + data,
        lambda data: data[: -2000 - 3] + b"\x42" + data[-2000 - 2 :],  # another field
    ],
)
def test_what_is_behind_a_beginning_that_is_known_counts(change):
    data = message(entry("a", "UINT8", (2000,)), raw=[b"\1" * 2000]).SerializeToString()
    expected = _read(change(data))
    _read(data)  # is known from now on
    assert _read(change(data))[1:] == expected[1:]
    assert expected[1:] != _read(data)[1:] or expected[0].outputs


@pytest.mark.parametrize("end", [b"", b"\xff", b"\xff" * 11, b"\xd1\x0f" + b"\1" * 2000])
def test_values_that_end_too_early_behind_a_known_beginning_are_refused(end):
    long = {"note": {"string_param": "x" * 1100}}
    data = message(entry("a", "UINT8", (2000,)), raw=[b"\1" * 2000], parameters=long).SerializeToString()
    _read(data)
    with pytest.raises(RequestError, match="the message ends inside"):
        InferMessage.read(data[: -2000 - 2] + end)
