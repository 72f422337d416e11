"""A call that stays open is answered whenever the answer has changed: the health service's Watch."""

from __future__ import annotations

import json

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.grpc.raw_http2 import RawClient, grpc_frame
from tests.grpc.running import WAIT_S, serving_grpc
from tests.http.clients import wait_until
from tests.protocols.fakes import Pool

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
SERVING, NOT_SERVING, SERVICE_UNKNOWN = (
    getattr(health_pb2.HealthCheckResponse, name) for name in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
)


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture
def served(pool, monkeypatch):
    monkeypatch.setattr("cpuserve.grpc.calls._LOOK_EVERY_S", 0.05)
    with serving_grpc(pool) as one:
        yield one


@pytest.fixture
def channel(served):
    with grpc.insecure_channel(served.address) as made:
        yield made


def check(channel):
    request = health_pb2.HealthCheckRequest()
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=WAIT_S).status


def watch(channel, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Watch(request, timeout=WAIT_S)


def test_each_change_of_health_is_sent_to_those_who_watch(channel, pool, served):
    watches = [watch(channel), watch(channel, "inference.GRPCInferenceService")]
    unknown = watch(channel, "nothing")
    assert next(unknown).status == SERVICE_UNKNOWN
    for _ in range(2):
        assert [next(one).status for one in watches] == [SERVING] * 2
        pool.ready = False
        assert [next(one).status for one in watches] == [NOT_SERVING] * 2
        pool.ready = True
    for one in (*watches, unknown):
        one.cancel()
    assert served.codes == ["OK"] * 9
    assert check(channel) == SERVING
    wait_until(lambda: not served.server._calls._open)


def test_whoever_watches_is_told_when_the_worker_stops(channel, pool, served):
    one = watch(channel)
    assert next(one).status == SERVING
    pool.ready = False
    served.server.stop(WAIT_S)
    assert next(one).status == NOT_SERVING
    with pytest.raises(grpc.RpcError, match="this worker is stopping") as caught:
        next(one)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    wait_until(lambda: not served.server.running)


def test_a_failing_look_ends_a_watch_with_its_error(channel, pool, caplog):
    one = watch(channel)
    next(one)
    del pool.models
    with pytest.raises(grpc.RpcError) as caught:
        next(one)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "AttributeError" in caplog.text


@pytest.mark.parametrize(
    ("message", "code"), [(bytes(2000), "RESOURCE_EXHAUSTED"), (b"\xff", "INVALID_ARGUMENT")]
)
def test_a_watch_whose_message_is_refused_is_ended(channel, served, message, code):
    call = channel.unary_stream(f"/{HEALTH}/Watch")(message, timeout=WAIT_S)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert (caught.value.code().name, served.codes) == (code, [code])
    wait_until(lambda: not served.server._calls._open)


def test_watches_leave_room_for_other_calls(served):
    with grpc.insecure_channel(served.address) as channel:
        watches = []
        for _ in range(33):  # of 100 calls that may be open
            watches.append(watch(channel))
            assert next(watches[-1]).status == SERVING
        with pytest.raises(grpc.RpcError, match="open longest of too many") as caught:
            next(watches[0])
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert check(channel) == SERVING


def test_watches_leave_room_for_other_calls_also_where_few_may_be_open():
    with serving_grpc(max_connections=8) as one, grpc.insecure_channel(one.address) as channel:
        watches = []
        for _ in range(10):
            watches.append(watch(channel))
            assert next(watches[-1]).status == SERVING
        assert check(channel) == SERVING
        wait_until(lambda: len(one.server._calls._open) == 2)


def test_many_watches_of_a_client_do_not_end_those_of_others(served):
    with grpc.insecure_channel(served.address) as channel, RawClient(served.address, "127.0.0.2") as many:
        one = watch(channel)
        assert next(one).status == SERVING
        streams = [many.begin(f"/{HEALTH}/Watch") for _ in range(60)]
        for stream in streams:
            many.send(stream, grpc_frame(b""), end=True)
        wait_until(lambda: len(many.ended) == 36 or many.read(0.1) is None)  # of 61; 25 may be open
        assert set(many.ended.values()) == {14}  # UNAVAILABLE
        assert one.is_active()
        one.cancel()


def test_a_channel_that_looks_at_health_by_itself_is_ready(served, pool):
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
    states = []
    with grpc.insecure_channel(served.address, [("grpc.service_config", json.dumps(config))]) as channel:
        channel.subscribe(states.append, try_to_connect=True)
        wait_until(lambda: grpc.ChannelConnectivity.READY in states)
        assert check(channel) == SERVING
        states.clear()
        pool.ready = False
        wait_until(lambda: grpc.ChannelConnectivity.TRANSIENT_FAILURE in states)
        pool.ready = True
        wait_until(lambda: states[-1] is grpc.ChannelConnectivity.READY)
        assert check(channel) == SERVING
