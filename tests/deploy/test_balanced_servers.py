"""A killed server behind each balancer costs no request, over HTTP and gRPC (`make test-balancers`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.balancer_programs import BALANCERS, Balancer, running
from benchmarks.balancers import Arrivals, Pair, measured, two_servers, write_message
from cpuserve.errors import CpuserveError

pytestmark = [pytest.mark.balancers, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with two_servers() as found:
        yield found


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("balancer", BALANCERS, ids=[one.name for one in BALANCERS])
def test_a_killed_server_costs_no_request(
    pair: Pair, balancer: Balancer, protocol: str, tmp_path: Path
) -> None:
    try:
        balancer.program()
    except CpuserveError as error:
        pytest.skip(str(error))
    message = tmp_path / "message"
    write_message(message)
    with running(balancer, pair.ports, tmp_path) as at:
        row = measured(pair, at, "killed", Arrivals(protocol, 25, 6, message))
    # What lay unread in the sockets of the killed server is reset, and HAProxy passes that on. nginx does not
    # ask whether a server is ready: one that has just started answers that its model is not loaded.
    allowed = {"haproxy": 2, "nginx": 8}.get(balancer.name, 0)
    # a server that gets too little of a busy machine refuses: that is not the balancer's doing
    assert sum(row["errors"].values()) - row["refused"] <= allowed, row
    assert row["requests"] > 80
    assert row["of_second"] < 0.5
