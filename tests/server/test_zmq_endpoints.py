"""Which worker serves which of the ZeroMQ endpoints."""

from __future__ import annotations

import pytest

from cpuserve.server.zmq_endpoints import endpoints_of


@pytest.mark.parametrize(
    ("endpoints", "seats", "served"),
    [
        ("a", 1, ["a"]),
        ("a", 3, ["a", "a", "a"]),
        ("ab", 2, ["a", "b"]),
        ("ab", 3, ["a", "b", "a"]),
        ("abc", 2, ["ac", "b"]),
        ("abcde", 1, ["abcde"]),
    ],
)
def test_every_endpoint_has_a_worker_and_every_worker_an_endpoint(endpoints, seats, served):
    assert ["".join(endpoints_of(seat, seats, list(endpoints))) for seat in range(seats)] == served
