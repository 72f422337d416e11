"""Fields of a protobuf message by their numbers, as far as the file is one."""

import io

import pytest

from cpuserve.models.protobuf import ProtobufField, fields, size_of


def walked(data):
    file = io.BytesIO(data)
    assert size_of(file) == len(data)
    return list(fields(file, 0, len(data)))


def test_numbers_bytes_and_fixed_sizes():
    data = b"\x08\x96\x01" + b"\x12\x03abc" + b"\x1d" + bytes(4) + b"\x21" + bytes(8)
    assert walked(data) == [
        ProtobufField(1, 1, 1, 150),
        ProtobufField(2, 5, 8),
        ProtobufField(3, 9, 13),
        ProtobufField(4, 14, 22),
    ]


def test_a_field_number_of_two_bytes():
    assert walked(b"\xc2\x3e\x01x") == [ProtobufField(1000, 3, 4)]


@pytest.mark.parametrize("data", [b"\x0b", b"\x0c", b"\x08\x01\x0e"])
def test_what_is_no_field_ends_the_walk(data):
    assert walked(data + b"rest")[-1].number == 0


@pytest.mark.parametrize("data", [b"\x12\x10abc", b"\x12\xff", b"\x12"])
def test_a_field_that_was_cut_off_ends_behind_the_message(data):
    assert walked(data)[-1].end > len(data)
