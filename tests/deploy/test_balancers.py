"""nginx, HAProxy and Envoy with the files of deploy/balancers: who gets a request, and what is sent twice.

Deselected unless asked for (`make test-balancers`); `test_balancer_files.py` always runs.
"""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from benchmarks.balancer_programs import BALANCERS, Balancer, Listening, Ports, running
from cpuserve.errors import CpuserveError
from tests.deploy.stub_servers import GRPC_INFER, GRPC_OTHER, Stub, stub

INFER = ("/predictions/m", "/v2/models/m/infer", "/v2/models/m/versions/3/infer", "/v1/models/m:predict")
OTHER = "/v2/models/m/else"
ADMIN = ("/v2/repository/models/m/load", "/v1/config/reload", "/v2/logging", "/metrics")
PICTURE = os.urandom(120_000)
WAIT_S = 20

pytestmark = pytest.mark.balancers


@dataclass
class Behind:
    """A balancer and the two servers behind it."""

    name: str
    at: Listening
    servers: tuple[Stub, Stub]

    def ask(self, path: str, body: bytes = PICTURE, method: str = "POST") -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", self.at.http, timeout=WAIT_S)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def seen(self, path: str) -> list[int]:
        return [server.seen[path] for server in self.servers]

    def call(self, method: str) -> str:
        """The code of a call over a channel of its own."""
        with grpc.insecure_channel(f"127.0.0.1:{self.at.grpc}", [("grpc.enable_retries", 0)]) as channel:
            try:
                channel.unary_unary(method)(PICTURE, timeout=WAIT_S)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"


@contextmanager
def behind(
    balancer: Balancer, folder: Path, change: Callable[[str], str] = lambda text: text
) -> Iterator[Behind]:
    try:
        balancer.program()
    except CpuserveError as error:
        if os.environ.get("CI") and balancer.name == "envoy":
            pytest.fail(str(error))
        pytest.skip(str(error))
    with ExitStack() as stack:
        first, second = stack.enter_context(stub()), stack.enter_context(stub())
        ports = Ports((first.http_port, second.http_port), (first.grpc_port, second.grpc_port))
        at = stack.enter_context(running(balancer, ports, folder, change))
        found = Behind(balancer.name, at, (first, second))
        until = time.monotonic() + WAIT_S
        while "OK" not in (found.call(GRPC_OTHER),) or found.ask("/", method="GET", body=b"") != 200:
            assert time.monotonic() < until, (folder / f"{balancer.name}.log").read_text()
            time.sleep(0.1)
        for server in found.servers:
            server.seen.clear()
        yield found


@pytest.fixture(params=BALANCERS, ids=[one.name for one in BALANCERS])
def balancer(request: pytest.FixtureRequest) -> Balancer:
    found: Balancer = request.param
    return found


@pytest.fixture
def fleet(balancer: Balancer, tmp_path: Path) -> Iterator[Behind]:
    with behind(balancer, tmp_path) as found:
        yield found


def test_the_server_that_has_less_to_do_gets_the_request(fleet: Behind) -> None:
    slow, quick = fleet.servers
    slow.does = "waits"
    path = INFER[0]
    with ThreadPoolExecutor(8) as clients:
        held = [clients.submit(fleet.ask, path) for _ in range(6)]
        until = time.monotonic() + WAIT_S
        while not (slow.seen[path] and sum(one.done() for one in held) == 6 - slow.seen[path]):
            assert time.monotonic() < until, fleet.seen(path)
            time.sleep(0.05)
        # the quick one has nothing to do now; a choice at random, or by turns, would take the slow one too
        before = slow.seen[path]
        assert [fleet.ask(path) for _ in range(20)] == [200] * 20
        assert (slow.seen[path], quick.seen[path]) == (before, 26 - before)
        slow.released.set()
        assert {one.result() for one in held} == {200}


def test_inference_is_sent_again_when_the_connection_breaks_and_nothing_else_is(fleet: Behind) -> None:
    broken, _ = fleet.servers
    for does in ("breaks", "resets"):
        broken.does = does
        for path in INFER:
            answers = [fleet.ask(path) for _ in range(4)]
            if does == "breaks" or fleet.name != "haproxy":  # it passes a reset on
                assert answers == [200] * 4, (does, path)
    assert any(broken.seen[path] for path in INFER)
    for server in fleet.servers:
        server.does = "breaks"
        server.seen.clear()
    assert fleet.ask(OTHER) in {502, 503}
    assert sum(fleet.seen(OTHER)) <= 1
    assert fleet.ask(INFER[0]) in {502, 503}
    assert sum(fleet.seen(INFER[0])) <= 3


def test_a_full_server_refuses_and_its_neighbour_is_asked_once(fleet: Behind) -> None:
    path, asked = INFER[1], 10
    for full in fleet.servers:
        full.does = "refuses"
        answers = [fleet.ask(path) for _ in range(asked)]
        assert set(answers) <= ({200} if fleet.name == "envoy" else {200, 503})
        full.does = "answers"
    again = sum(fleet.seen(path)) - 2 * asked
    assert again == 0 if fleet.name == "nginx" else 0 < again <= 2 * asked
    for server in fleet.servers:
        server.does = "refuses"
        server.seen.clear()
    assert [fleet.ask(path) for _ in range(5)] == [503] * 5
    # a second try, of Envoy a third, and none is taken out for being full
    assert sum(fleet.seen(path)) == 5 * {"nginx": 1, "haproxy": 2, "envoy": 3}[fleet.name]
    assert [fleet.ask(OTHER) for _ in range(5)] == [503] * 5
    assert sum(fleet.seen(OTHER)) == 5
    for server in fleet.servers:
        server.does = "answers"
    assert [fleet.ask(path) for _ in range(8)] == [200] * 8


def test_what_takes_too_long_is_not_computed_twice(balancer: Balancer, tmp_path: Path) -> None:
    with behind(balancer, tmp_path, lambda text: re.sub(r"\b15s", "1s", text)) as fleet:
        for server in fleet.servers:
            server.does = "waits"
        assert fleet.ask(INFER[0]) == 504
        assert sum(fleet.seen(INFER[0])) == 1


def test_a_server_that_is_gone_costs_no_request(fleet: Behind) -> None:
    fleet.servers[0].stop()
    for path in (*INFER, OTHER):
        assert [fleet.ask(path) for _ in range(5)] == [200] * 5
    for method in (GRPC_INFER, GRPC_OTHER):
        assert [fleet.call(method) for _ in range(5)] == ["OK"] * 5


def test_a_server_that_is_gone_is_not_chosen_again_for_having_nothing_to_do(fleet: Behind) -> None:
    for server in fleet.servers:
        server.does = "waits"
    with ThreadPoolExecutor(1) as client:
        held = client.submit(fleet.ask, INFER[0])
        until = time.monotonic() + WAIT_S
        while not any(fleet.seen(INFER[0])):
            assert time.monotonic() < until
            time.sleep(0.02)
        busy, idle = sorted(fleet.servers, key=lambda server: -server.seen[INFER[0]])
        busy.does = "answers"  # but for what it holds
        idle.stop()
        assert [fleet.ask(INFER[1]) for _ in range(10)] == [200] * 10
        busy.released.set()
        assert held.result() == 200


def test_grpc_is_balanced_by_call_and_only_refused_inference_is_sent_again(fleet: Behind) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{fleet.at.grpc}") as channel:  # one connection
        ask = channel.unary_unary(GRPC_INFER)
        # Envoy does not count calls that wait for its first connection to a server
        until = time.monotonic() + WAIT_S
        while not all(fleet.seen(GRPC_OTHER)):
            channel.unary_unary(GRPC_OTHER)(PICTURE, timeout=WAIT_S)
            assert time.monotonic() < until
        fleet.servers[0].does = fleet.servers[1].does = "waits"
        calls = [ask.future(PICTURE, timeout=WAIT_S) for _ in range(8)]
        until = time.monotonic() + WAIT_S
        while sum(fleet.seen(GRPC_INFER)) < 8:
            assert time.monotonic() < until, fleet.seen(GRPC_INFER)
            time.sleep(0.05)
        assert fleet.seen(GRPC_INFER) == [4, 4]
        for server in fleet.servers:
            server.released.set()
        assert [call.result() for call in calls] == [b"answered"] * 8
    for server in fleet.servers:
        server.does = "refuses"
        server.seen.clear()
    assert (fleet.call(GRPC_INFER), fleet.call(GRPC_OTHER)) == ("UNAVAILABLE", "UNAVAILABLE")
    assert sum(fleet.seen(GRPC_INFER)) == (3 if fleet.name == "envoy" else 1)
    assert sum(fleet.seen(GRPC_OTHER)) == 1


def test_clients_cannot_manage_the_servers(fleet: Behind) -> None:
    for path in ADMIN:
        assert fleet.ask(path) == 403
        assert fleet.seen(path) == [0, 0]
    assert fleet.call("/inference.GRPCInferenceService/RepositoryModelLoad") == "PERMISSION_DENIED"
