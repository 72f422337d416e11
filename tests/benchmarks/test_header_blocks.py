"""Statuses in header blocks, however a server writes them."""

from __future__ import annotations

import pytest

from benchmarks.header_blocks import read_statuses
from tests.benchmarks.scripted_http2 import block


@pytest.mark.parametrize("huffman", [False, True])
def test_each_status_is_read_however_it_is_written(huffman):
    for status in range(17):
        fields = (
            ("server", "any/1"),
            ("grpc-message", "x y"),
            ("grpc-status", str(status)),
            ("a", "b" * 200),
        )
        assert read_statuses(block(*fields, huffman=huffman)) == (None, status)
    for http in (200, 204, 206, 304, 400, 404, 500, 403, 502):
        assert read_statuses(block((":status", str(http)), ("date", "now"), huffman=huffman)) == (http, None)


@pytest.mark.parametrize("entry", [b"\0", b"\x10", b"\x40"])
def test_kinds_of_literals_and_sizes_of_the_table_are_known(entry):
    literal = entry + b"\x0bgrpc-status\x0213"
    assert read_statuses(b"\x20" + b"\x3f\xe1\x1f" + b"\x88" + literal) == (200, 13)
    assert read_statuses(literal[:-2] + b"oh") == (None, 2)
    for cut in range(1, len(literal)):
        with pytest.raises(ValueError, match="ends too early"):
            read_statuses(literal[:cut])


@pytest.mark.parametrize("bad", [b"\xbe", b"\x7f\x00\x01a", b"\x00" + b"\x7f" + b"\xff" * 9])
def test_what_needs_a_table_or_has_no_end_is_refused(bad):
    with pytest.raises(ValueError, match=r"dynamic table|too long"):
        read_statuses(bad)
