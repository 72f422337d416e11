"""Requests that come again: what they ask is found out once for a pipeline, their values each time."""

from __future__ import annotations

import gc
import os
import weakref
from multiprocessing.shared_memory import SharedMemory as ClientMemory

import numpy as np
import pytest

from cpuserve.errors import RequestError
from cpuserve.protocols.call import Call
from cpuserve.protocols.inference import RepeatedInference
from cpuserve.protocols.shared_memory import SharedMemory, SharedPlace
from cpuserve.protocols.tensor import Tensor
from cpuserve.protocols.v2_body import InferBody, OutputWanted
from cpuserve.serving.request import Request
from tests.protocols.fakes import Pipeline

KEY = f"again{os.getpid()}_memory"
NOTHING = memoryview(b"")


@pytest.fixture
def memory():
    """A client's memory with the values of ``a``, 24 bytes, of ``b``, 6, and room for an output."""
    client = ClientMemory(KEY, create=True, size=4096)
    yield client
    client.close()
    client.unlink()


@pytest.fixture
def shared(memory):
    shared = SharedMemory(KEY)
    shared.register("r", KEY, 0, 4096)
    return shared


@pytest.fixture
def pipeline():
    made = Pipeline()
    made.takes_sources = True
    return made


def put(memory, a, b):
    memory.buf[:24] = np.array(a, np.float32).tobytes()
    memory.buf[100:106] = np.array(b, np.uint8).tobytes()


def body(outputs=(), parameters=None, rows=2):
    a = Tensor("a", "FP32", (rows, 3), NOTHING, SharedPlace("r", 0, rows * 12))
    b = Tensor("b", "UINT8", (rows, 3), NOTHING, SharedPlace("r", 100, rows * 3))
    return InferBody([b, a], outputs, parameters=parameters or {})


def ask(repeated, pipeline):
    return repeated.outputs(pipeline, Request(), Call("POST", "/"))


def test_values_are_new_each_time(memory, shared, pipeline):
    repeated = RepeatedInference(lambda: body([OutputWanted("first", binary=True)]), shared)
    for number in range(3):
        put(memory, [[number] * 3] * 2, [[1] * 3] * 2)
        ((name, values, binary),) = ask(repeated, pipeline)
        assert (name, values.tolist(), binary) == ("first", [[number] * 3] * 2, True)
    assert pipeline.repeated == 2


def test_outputs_are_what_was_asked_for_each_time(memory, shared, pipeline):
    wanted = [
        OutputWanted("sum", binary=True, place=SharedPlace("r", 200, 50)),
        OutputWanted("sum", binary=True, classification=1),
    ]
    repeated = RepeatedInference(lambda: body(wanted), shared)
    for number in range(3):
        put(memory, [[number, 9, 0]] * 2, [[1, 0, 0]] * 2)
        (_, _, place), (_, classes, _) = ask(repeated, pipeline)
        assert place == SharedPlace("r", 200, 24)
        assert np.frombuffer(memory.buf[200:224], np.float32).tolist() == [number + 1, 9, 0] * 2
        assert classes.tolist() == [["9.000000:1:dog"]] * 2
    assert pipeline.repeated == 2


def test_another_pipeline_is_asked_anew_and_one_that_is_gone_is_not_kept(memory, shared, pipeline):
    put(memory, [[1] * 3] * 2, [[1] * 3] * 2)
    repeated = RepeatedInference(body, shared)
    ask(repeated, pipeline)
    newer = Pipeline("newer")
    newer.takes_sources = True
    ask(repeated, newer)
    assert (pipeline.repeated, newer.repeated) == (0, 0)
    ask(repeated, newer)
    assert newer.repeated == 1
    gone = weakref.ref(newer)
    del newer
    gc.collect()
    assert gone() is None


def test_a_pipeline_that_looks_at_values_is_asked_each_time(memory, shared, pipeline):
    put(memory, [[1] * 3] * 2, [[1] * 3] * 2)
    pipeline.takes_sources = False
    repeated, taken = RepeatedInference(body, shared), []
    for _ in range(3):
        call = Call("POST", "/", take_memory=taken.append)
        assert repeated.outputs(pipeline, Request(), call)[0][1].tolist() == [[2] * 3] * 2
    assert pipeline.repeated == 0
    assert taken == [6, 24] * 3  # each value is read once


def test_pictures_are_read_once_each_time(memory, shared, pipeline):
    memory.buf[:9] = b"\5\0\0\0photo"
    picture = Tensor("a", "BYTES", (1,), NOTHING, SharedPlace("r", 0, 9))
    repeated, taken = RepeatedInference(lambda: InferBody([picture]), shared), []
    for _ in range(3):
        call = Call("POST", "/", take_memory=taken.append)
        assert repeated.outputs(pipeline, Request(), call)[0][1].tolist() == [[5, 5, 5]]
    assert taken == [9] * 3


def test_memory_is_looked_at_each_time(memory, shared, pipeline):
    put(memory, [[1] * 3] * 2, [[1] * 3] * 2)
    repeated = RepeatedInference(body, shared)
    ask(repeated, pipeline)
    os.truncate(f"/dev/shm/{KEY}", 50)  # noqa: S108
    with pytest.raises(RequestError, match="has shrunk"):
        ask(repeated, pipeline)
    shared.unregister("r")
    with pytest.raises(RequestError, match="no shared memory region"):
        ask(repeated, pipeline)
    os.truncate(f"/dev/shm/{KEY}", 4096)  # noqa: S108
    shared.register("r", KEY, 0, 60)
    with pytest.raises(RequestError, match="outside of region"):
        ask(repeated, pipeline)
    shared.unregister("r")
    shared.register("r", KEY, 0, 4096)
    assert ask(repeated, pipeline)[0][1].shape == (2, 3)


def test_a_request_is_answered_though_its_memory_is_unregistered_meanwhile(memory, shared, pipeline):
    put(memory, [[1] * 3] * 2, [[1] * 3] * 2)
    repeated, whole = RepeatedInference(body, shared), pipeline.infer

    def infer(tensors, request):
        found = whole(tensors, request)
        shared.unregister("r")
        return found

    pipeline.infer = infer
    assert ask(repeated, pipeline)[0][1].tolist() == [[2] * 3] * 2
    with pytest.raises(RequestError, match="no shared memory region"):
        ask(repeated, pipeline)


def test_what_was_refused_is_not_kept(shared, pipeline):
    repeated = RepeatedInference(lambda: body([OutputWanted("other", binary=True)]), shared)
    for _ in range(2):
        with pytest.raises(RequestError, match="there is no output 'other'"):
            ask(repeated, pipeline)
    assert pipeline.repeated == 0
