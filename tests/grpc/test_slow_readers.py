"""An answer that its client does not read is in memory for a limited time."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from h2.events import DataReceived
from h2.settings import SettingCodes

from cpuserve.grpc import slow_readers as module
from cpuserve.grpc.slow_readers import SlowReaders
from tests.grpc.raw_http2 import RawClient, grpc_frame
from tests.grpc.running import ask, full_name, serving_grpc
from tests.grpc.test_lasting_call import HEALTH
from tests.grpc.test_server import pictures
from tests.http.clients import wait_until

WATCH = f"/{HEALTH}/Watch"


class Sender:
    cancelled, answering = 0, False

    def cancel(self):
        self.cancelled += 1


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_large_answers_have_more_time_and_small_ones_are_not_watched(clock):
    slow, large, larger, small = SlowReaders(10.0), Sender(), Sender(), Sender()
    slow.begin(small, 64 << 10)
    assert slow.due == math.inf
    slow.begin(larger, 128 << 16)
    slow.begin(large, 128 << 10)
    assert slow.due == 1012.0
    clock[0] = slow.due
    slow.look()
    assert (small.cancelled, large.cancelled, larger.cancelled) == (0, 1, 0)
    assert slow.due == 1138.0
    slow.end(larger)
    slow.end(large)
    clock[0] = slow.due
    slow.look()
    assert (larger.cancelled, slow.due) == (0, math.inf)


def test_a_small_answer_has_its_time_from_when_it_is_found_under_way(clock):
    slow, sender, idle, large = SlowReaders(10.0), Sender(), Sender(), Sender()
    slow.begin(large, 128 << 10)
    sender.answering = large.answering = True
    slow.find([sender, idle, large])
    clock[0] += 5
    slow.find([sender, idle, large])
    assert slow.due == 1010.0
    clock[0] = slow.due
    slow.look()
    assert (sender.cancelled, idle.cancelled, large.cancelled, slow.due) == (1, 0, 0, 1012.0)


class Unread(RawClient):
    """A client with a small window, of which it takes nothing out."""

    def _note(self, event):
        if not isinstance(event, DataReceived):
            super()._note(event)


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_a_client_that_does_not_read_its_answer_is_cut_off(method, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 10_000)
    with serving_grpc(request_timeout_s=0.2) as one, Unread(one.address) as client:
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        client.flush()
        assert client.read(10)
        stream = client.begin(full_name(method))
        many = pictures(*[b"x"] * 1000).SerializeToString()  # an answer of 24 kB
        client.send(stream, grpc_frame(many), end=method == "ModelInfer")
        assert client.wait([stream], 10) == {stream: 8}  # RESOURCE_EXHAUSTED
        wait_until(lambda: not one.server._calls._open)
        assert one.transport.budget.held == 0


@pytest.mark.parametrize("method", [full_name("ServerLive"), full_name("ModelStreamInfer"), WATCH])
def test_clients_that_take_nothing_do_not_keep_others_out(method, monkeypatch):
    monkeypatch.setattr("cpuserve.grpc.calls._LOOK_EVERY_S", 0.05)
    message = b"" if method != full_name("ModelStreamInfer") else pictures(b"x").SerializeToString()
    with serving_grpc(request_timeout_s=0.2, max_connections=40) as one, RawClient(one.address) as client:
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.flush()
        assert client.read(10)
        streams = [client.begin(method) for _ in range(40)]
        for stream in streams:
            client.send(stream, grpc_frame(message), end=method != full_name("ModelStreamInfer"))
        assert client.wait(streams, 20).keys() == set(streams)
        wait_until(lambda: not one.server._calls._open)
        assert ask(one.address, "ServerLive", b"")
