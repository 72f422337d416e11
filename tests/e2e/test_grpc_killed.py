"""A worker that is killed takes the calls inside it along, and no other: clients go on with its neighbour."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading

import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT
from tests.servers import free_port, serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
CLIENTS = 6
OWN = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own for each client
WAIT_S = 60


@pytest.fixture
def served(digits, tmp_path):
    """A server with two workers."""
    port = free_port()
    words = ("--model-repository", str(digits), "--workers", "2", "--grpc-port", str(port))
    with serving(tmp_path / "log", *words, ready=2) as server:
        server.grpc_port = port
        yield server


def picture():
    made = triton.InferInput("image", [1], "BYTES")
    made.set_data_from_numpy(np.array([SEVEN], dtype=object))
    return [made]


def sent(lost):
    """The messages of lost calls that reached the server.

    Where its new connection lay in the queue of a dying worker, a channel pauses before it connects again,
    and refuses calls itself until then.
    """
    return [message for _, message in lost if not message.startswith("failed to connect")]


def kill_one(server, answered):
    """Kill a worker under load, and wait until its successor and its neighbour have answered more."""
    server.wait_until(lambda: len(answered) > 50, "answered")
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    count = len(answered)
    server.wait_until(lambda: len(answered) > count + 50, "answered by the neighbour")
    server.settle(2, gone=[victim])
    count = len(answered)
    server.wait_until(lambda: len(answered) > count + 50, "answered by both")


def test_calls_of_several_clients(served):
    lost, answered, stop = [], [], threading.Event()

    def ask_again():
        with triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}", channel_args=OWN) as client:
            while not stop.is_set():
                try:
                    answered.append(client.infer("digits", picture()).as_numpy("probabilities").tobytes())
                except InferenceServerException as error:
                    lost.append((error.status(), error.message()))

    clients = [threading.Thread(target=ask_again) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    try:
        kill_one(served, answered)
    finally:
        stop.set()
        for one in clients:
            one.join(WAIT_S)
    # one call each inside the killed worker, and one each that waited in its queue to be accepted
    assert len(sent(lost)) <= 2 * CLIENTS
    assert {status for status, _ in lost} <= {"StatusCode.UNAVAILABLE"}
    assert len(set(answered)) == 1


def test_the_asynchronous_client_with_calls_at_a_time(served):
    lost, answered, stop = [], [], threading.Event()

    async def ask_again(client):
        while not stop.is_set():
            try:
                answer = await client.infer("digits", picture())
                answered.append(answer.as_numpy("probabilities").tobytes())
            except InferenceServerException as error:
                lost.append((error.status(), error.message()))

    async def ask():
        async with aio.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as client:
            await asyncio.gather(*(ask_again(client) for _ in range(CLIENTS)))

    asking = threading.Thread(target=lambda: asyncio.run(ask()))
    asking.start()
    try:
        served.wait_until(lambda: len(answered) > 50, "answered")
        for victim in served.workers():  # one of them has the only channel
            os.kill(victim, signal.SIGKILL)
            count = len(answered)
            served.wait_until(lambda count=count: len(answered) > count + 50, "answered by the other")
            served.settle(2, gone=[victim])
    finally:
        stop.set()
        asking.join(WAIT_S)
    # of each worker those inside it, where it had the channel, and those that waited in its queue
    assert len(sent(lost)) <= 4 * CLIENTS
    assert {status for status, _ in lost} <= {"StatusCode.UNAVAILABLE"}
    assert len(set(answered)) == 1


def test_a_stream_ends_with_an_error_and_is_opened_again(served):
    for victim in served.workers():
        got = queue.Queue()
        client = triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}", channel_args=OWN)
        client.start_stream(lambda result, error, got=got: got.put((result, error)))
        client.async_stream_infer("digits", picture())
        assert got.get(timeout=WAIT_S)[1] is None
        os.kill(victim, signal.SIGKILL)
        served.settle(2, gone=[victim])
        try:
            client.async_stream_infer("digits", picture())
            result, error = got.get(timeout=WAIT_S)
            assert (result is None) != (error is None)
        except InferenceServerException as ended:
            error = ended
        client.stop_stream()
        if error is not None:
            client.start_stream(lambda result, error, got=got: got.put((result, error)))
            client.async_stream_infer("digits", picture())
            while (answer := got.get(timeout=WAIT_S))[0] is None:
                assert "UNAVAILABLE" in str(answer[1])
            client.stop_stream()
        client.close()
