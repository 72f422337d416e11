"""Tensors in shared memory: what may be registered, what is read and written, and what clients may not do."""

from __future__ import annotations

import json
import os
import re
from multiprocessing.shared_memory import SharedMemory as ClientMemory
from pathlib import Path

import numpy as np
import pytest

from cpuserve.errors import BodiesTooLarge, RequestError, UsageError
from cpuserve.protocols.call import Call, answer
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.shared_memory import SharedMemory, SharedMemoryRoutes, SharedPlace
from cpuserve.protocols.v2 import V2
from tests.protocols.fakes import Pool, ask

MEMORY = Path("/dev/shm")  # noqa: S108
PREFIX = f"shmtest{os.getpid()}_"
A = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
B = {"name": "b", "datatype": "UINT8", "shape": [2, 3], "data": [[1, 1, 1], [2, 2, 2]]}


@pytest.fixture
def client():
    """Shared memory of a client, 4 KiB long."""
    memory = ClientMemory(PREFIX + "one", create=True, size=4096)
    yield memory
    memory.close()
    memory.unlink()


@pytest.fixture
def shared():
    return SharedMemory(PREFIX)


@pytest.fixture
def routes(shared):
    return SharedMemoryRoutes(shared)


@pytest.fixture(params=[False, True], ids=["arrays", "sources"])
def v2(shared, request):
    """Over a model that takes arrays, or one that copies values into its batch by itself."""
    pool = Pool()
    pool.pipeline.takes_sources = request.param
    return V2(pool, shared)


def register(routes, name="r", **body):
    return ask(routes.register, name, body={"key": f"/{PREFIX}one", "byte_size": 1024, **body})


def place(name="a", size=24, **more):
    parameters = {"shared_memory_region": "r", "shared_memory_byte_size": size, **more}
    return {"name": name, "datatype": "FP32", "shape": [2, 3], "parameters": parameters}


def infer(v2, *inputs, **more):
    return ask(v2.infer, "m", body={"inputs": list(inputs), **more})


def test_every_worker_knows_of_a_change_by_another_at_once(shared, client):
    def in_another_process(function):
        child = os.fork()
        if not child:
            try:
                function()
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    place = SharedPlace("r", 0, 8)
    for content in (b"one", b"two"):
        with pytest.raises(RequestError, match="no shared memory region"):
            shared.read(place, 100, lambda _count: None)
        client.buf[:3] = content
        in_another_process(lambda: shared.register("r", PREFIX + "one", 0, 16))
        assert bytes(shared.read(place, 100, lambda _count: None))[:3] == content
        in_another_process(lambda: shared.unregister("r"))


def test_regions_are_registered_listed_and_forgotten(routes, client):
    assert register(routes)[0] == 200
    assert register(routes, "s", offset=100)[0] == 200
    first = {"name": "r", "key": f"/{PREFIX}one", "offset": 0, "byte_size": 1024}
    assert ask(routes.status)[2] == [first, {**first, "name": "s", "offset": 100}]
    assert ask(routes.status, "r")[2] == [first]
    assert ask(routes.unregister, "r")[0] == 200
    assert ask(routes.status, "r")[0] == 400
    assert ask(routes.unregister)[0] == 200
    assert ask(routes.status)[2] == []


def test_values_are_read_and_outputs_written_where_the_client_says(v2, routes, client):
    register(routes, offset=64)
    client.buf[64 + 8 : 64 + 32] = A.tobytes()
    outputs = [
        {"name": "first"},
        {"name": "sum", "parameters": place(size=100, shared_memory_offset=200)["parameters"]},
    ]
    status, _, found = infer(v2, place(shared_memory_offset=8), B, outputs=outputs)
    assert status == 200
    assert found["outputs"][0]["data"] == A.reshape(-1).tolist()
    # as Triton's own: its client in C++ takes an output with parameters for one with binary data
    assert found["outputs"][1] == {"name": "sum", "datatype": "FP32", "shape": [2, 3]}
    written = np.frombuffer(bytes(client.buf[264 : 264 + 24]), np.float32)
    assert written.tolist() == (A + np.array([[1], [2]], np.float32)).reshape(-1).tolist()


def test_pictures_are_read_too(v2, routes, client):
    register(routes)
    client.buf[:8] = b"\4\0\0\0four"
    picture = {**place(size=8), "datatype": "BYTES", "shape": [1]}
    assert infer(v2, picture)[2]["outputs"][0]["data"] == [4, 4, 4]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"key": "/other"}, "has to begin with"),
        ({"key": f"/../{PREFIX}one"}, "no name of shared memory"),
        ({"key": f"{PREFIX}/../../etc"}, "no name of shared memory"),
        ({"key": f"//{PREFIX}one"}, "no name of shared memory"),
        ({"key": f"{PREFIX}one\x00"}, "no name of shared memory"),
        ({"key": ""}, "no name of shared memory"),
        ({"key": PREFIX + "a" * 250}, "1 to 250 letters"),
        ({"key": PREFIX + "nothing"}, "cannot be opened: No such file"),
        ({"byte_size": 4097}, "needs 4097 bytes .* which has 4096"),
        ({"offset": 4000}, "needs 5024 bytes"),
        ({"byte_size": 0}, "make no region"),
        ({"byte_size": 1 << 63}, "make no region"),
        ({"offset": -1}, "make no region"),
        ({"offset": "1"}, "whole numbers"),
        ({"offset": True}, "whole numbers"),
        ({"byte_size": 1.5}, "whole numbers"),
        ({"byte_size": True}, "whole numbers"),
        ({"byte_size": 1 << 64}, "whole numbers"),
        ({"byte_size": -1}, "make no region"),
        ({"offset": 1 << 62}, "make no region"),
        ({"key": 5}, "whole numbers"),
    ],
)
def test_what_may_not_be_registered(routes, client, body, words):
    status, _, found = register(routes, **body)
    assert status == 400
    assert re.search(words, found["error"]), found
    assert ask(routes.status)[2] == []


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "a/b"])
def test_names_of_regions_can_be_shown_and_be_a_part_of_a_path(routes, client, name):
    assert register(routes, name)[0] == 400


def test_a_name_is_taken_once_and_there_are_not_too_many(routes, client):
    assert register(routes)[0] == 200
    assert "registered already" in register(routes)[2]["error"]
    for number in range(63):
        assert register(routes, f"r{number}")[0] == 200
    assert "64 regions are registered" in register(routes, "more")[2]["error"]


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_only_plain_memory_is_opened(routes, client, kind):
    file = MEMORY / f"{PREFIX}odd"
    if kind == "link":
        file.symlink_to(MEMORY / f"{PREFIX}one")
    elif kind == "directory":
        file.mkdir()
    else:
        os.mkfifo(file)
    try:
        assert register(routes, key=PREFIX + "odd")[0] == 400
    finally:
        file.rmdir() if kind == "directory" else file.unlink()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"shared_memory_region": "other"}, "no shared memory region 'other'"),
        ({"shared_memory_byte_size": 1025}, "outside of region"),
        ({"shared_memory_offset": 1020}, "outside of region"),
        ({"shared_memory_offset": -1}, "no place"),
        ({"shared_memory_byte_size": -1}, "no place"),
        ({"shared_memory_byte_size": None}, "whole numbers"),
        ({"shared_memory_region": 5}, "whole numbers"),
        ({"shared_memory_region": None}, "shared_memory_region is a name"),
        ({"shared_memory_byte_size": 23}, "takes 24 bytes, 23 were sent"),
        ({"binary_data_size": 24}, "beside those in shared memory"),
    ],
)
@pytest.mark.parametrize("kind", ["input", "output"])
def test_bounds_are_checked_at_every_request(v2, routes, client, parameters, words, kind):
    register(routes)
    bad = place(**parameters)
    if kind == "input":
        status, _, found = infer(v2, bad, B)
    elif "23" in words or "beside" in words:  # outputs have no such parameter
        pytest.skip("about inputs alone")
    else:
        status, _, found = infer(v2, place(), B, outputs=[{"name": "sum", "parameters": bad["parameters"]}])
    assert (status, words in found["error"]) == (400, True), found
    assert found["error"].startswith("input 'a'" if kind == "input" else "output 'sum'"), found


def test_an_output_that_does_not_fit_is_refused(v2, routes, client):
    register(routes)
    wanted = {"name": "sum", "parameters": place(size=23)["parameters"]}
    status, _, found = infer(v2, place(), B, outputs=[wanted])
    assert (status, "output 'sum' has 24 bytes; there are 23" in found["error"]) == (400, True)
    assert bytes(client.buf[:24]) == bytes(24)


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_memory_that_becomes_something_else_is_a_refusal(v2, routes, client, kind):
    register(routes)
    assert infer(v2, place(), B)[0] == 200
    file = MEMORY / f"{PREFIX}one"
    file.unlink()
    file.mkdir() if kind == "directory" else os.mkfifo(file)
    wanted = {"name": "sum", "parameters": place(size=24, shared_memory_offset=100)["parameters"]}
    values = {"name": "a", "datatype": "FP32", "shape": [2, 3], "data": A.tolist()}
    try:
        assert "is no shared memory" in infer(v2, place(), B)[2]["error"]
        assert infer(v2, values, B, outputs=[wanted])[0] == 400
    finally:
        file.rmdir() if kind == "directory" else file.unlink()
        file.touch()


def test_memory_that_shrinks_or_goes_is_a_refusal(v2, routes, client):
    register(routes)
    wanted = {"name": "sum", "parameters": place(size=24, shared_memory_offset=100)["parameters"]}
    assert infer(v2, place(), B, outputs=[wanted])[0] == 200
    file = MEMORY / f"{PREFIX}one"
    os.truncate(file, 110)
    status, _, found = infer(v2, place(), B, outputs=[wanted])
    assert (status, "which has 110" in found["error"]) == (400, True)
    assert file.stat().st_size == 110  # writing has not lengthened it
    os.truncate(file, 10)
    status, _, found = infer(v2, place(), B)
    assert (status, "has shrunk" in found["error"]) == (400, True)
    file.unlink()
    assert "cannot be opened" in infer(v2, place(), B)[2]["error"]
    file.write_bytes(A.tobytes())
    status, _, found = infer(v2, place(), B)
    assert (status, found["outputs"][1]["data"]) == (200, [1, 2, 3, 4, 5, 6])


def test_what_is_read_is_limited_and_counted(v2, routes, client, request):
    register(routes)
    body = b'{"inputs": [' + json.dumps(place()).encode() + b"]}"
    small = Call("POST", "/", data=body, limits=ClientLimits(max_body_bytes=20))
    refused = answer(v2.infer, small, "m")
    assert refused.status == 413
    assert "input 'a' has 24 bytes in region 'r'; it may have 20" in refused.refusal.text

    def refuse(count):
        assert count == 24
        raise BodiesTooLarge("too many", 1.0)

    status = answer(v2.infer, Call("POST", "/", data=body, take_memory=refuse), "m").status
    # a source takes no memory: what is wrong is the second input, which is missing
    assert status == (400 if "sources" in request.node.name else 503)


def test_where_it_is_off_it_is_refused_by_the_setting():
    assert "setting shared_memory_prefix" in infer(V2(Pool()), place(), B)[2]["error"]
    assert "system_shared_memory" not in ask(V2(Pool()).server)[2]["extensions"]


def test_where_it_is_on_the_server_says_so(v2):
    assert "system_shared_memory" in ask(v2.server)[2]["extensions"]


@pytest.mark.parametrize("prefix", ["a/b", "a b", "c", "cpuserve-", "cpuserve-1", "wgunicorn-x", "ü"])
def test_prefixes_that_cannot_be(prefix):
    with pytest.raises(UsageError, match="shared_memory_prefix"):
        SharedMemory(prefix)


def test_there_may_be_several_prefixes(client):
    shared = SharedMemory(f"{PREFIX},other_")
    shared.register("r", f"/{PREFIX}one", 0, 10)
    with pytest.raises(RequestError, match=f"it has to begin with '{PREFIX}' or 'other_'"):
        shared.register("s", "/third", 0, 10)
    for wrong in (f"{PREFIX},", ",", "a,cpuserve-", "a, b"):
        with pytest.raises(UsageError, match="shared_memory_prefix"):
            SharedMemory(wrong)


def test_of_cuda_nothing_is_registered_and_all_of_it_is_forgotten(routes):
    assert ask(routes.no_cuda_status)[2] == []
    assert ask(routes.no_cuda_status, "r")[0] == 400
    assert ask(routes.no_cuda_unregister)[0] == 200
    assert ask(routes.no_cuda_unregister, "r")[0] == 200
