"""Fields of messages are found where protobuf wrote them, and damaged messages are refused."""

from __future__ import annotations

import random

import pytest

from cpuserve.errors import RequestError
from cpuserve.grpc.messages import message_class
from cpuserve.grpc.wire import BYTES, MOST_FIELDS, wire_fields

Request = message_class("inference.ModelInferRequest")


def test_every_kind_of_field_is_found_where_it_is():
    # a number, eight bytes, bytes and four bytes, as protobuf's documentation has them
    data = b"\x08\x96\x01" + b"\x11" + b"8" * 8 + b"\x1a\x03abc" + b"\x25" + b"4" * 4
    found = [
        (number, wire, data[start:end], data[value:end])
        for number, wire, start, value, end in wire_fields(memoryview(data))
    ]
    assert found == [
        (1, 0, b"\x08\x96\x01", b"\x96\x01"),
        (2, 1, b"\x11" + b"8" * 8, b"8" * 8),
        (3, BYTES, b"\x1a\x03abc", b"abc"),
        (4, 5, b"\x25" + b"4" * 4, b"4" * 4),
    ]


def test_values_are_not_copied():
    data = memoryview(Request(raw_input_contents=[b"x" * 1000]).SerializeToString())
    ((_, _, _, value, end),) = wire_fields(data)
    assert data[value:end].obj is data.obj


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\x05abc", "ends inside field 1"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends inside field 1"),
        (b"\x0a" + b"\xff" * 20, "ends inside a number"),
        (b"\x08", "ends inside a number"),
        (b"\x09abc", "ends inside field 1"),
        (b"\x0b", "unknown kind 3"),
        (b"\x02\x00", "field 0"),
        (b"\x08\x01" * (MOST_FIELDS + 1), "4096 fields"),
    ],
)
def test_what_is_no_message_is_refused(data, words):
    with pytest.raises(RequestError, match=words):
        list(wire_fields(memoryview(data)))


def test_as_many_fields_as_are_allowed_are_found():
    assert len(list(wire_fields(memoryview(b"\x08\x01" * MOST_FIELDS)))) == MOST_FIELDS


def test_random_bytes_end_in_fields_or_a_refusal():
    chance = random.Random(1)  # noqa: S311  # no secret
    for _ in range(2000):
        data = memoryview(chance.randbytes(chance.randrange(40)))
        try:
            found = list(wire_fields(data))
        except RequestError:
            continue
        assert sum(end - start for _, _, start, _, end in found) == len(data)
