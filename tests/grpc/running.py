"""A gRPC server over fake models, in this process, and a client for it."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import grpc

from cpuserve.grpc.methods import all_methods
from cpuserve.grpc.server import GrpcServer
from cpuserve.grpc.transport import GrpcTransport
from cpuserve.http.request_loop import RequestLoop
from cpuserve.protocols.admin import Admin
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.serving.admission import Admission
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.trace_ring import TraceRing
from tests.http.clients import wait_until
from tests.protocols.fakes import Pool
from tests.servers import free_port

WAIT_S = 30
_LOOK_S = 0.02


class Counter(list[str]):
    """The names of what was counted."""

    add = list.append

    def put_count(self, name, queue):
        pass


@contextmanager
def serving_grpc(
    pool=None,
    *,
    check=None,
    shared_memory=None,
    threads=1,
    queue_size=64,
    deadline_s=60.0,
    with_priorities=True,
    budget=1 << 28,
    max_connections=100,
    tls=None,
    port=0,
    **limits,
):
    """Serve the models of a pool; gives the address, the server, its loop, and what was counted."""
    loop = RequestLoop(
        *(threads, Admission(queue_size, threads)),
        deadline_s=deadline_s,
        with_priorities=with_priorities,
        log=logging.getLogger("test.grpc"),
    )
    counted = loop.runner.recorder = Counter()
    channels: list[int] = []
    codes: list[str] = []
    address = f"127.0.0.1:{port or free_port()}"
    transport = GrpcTransport(
        *(
            loop.submit,
            loop.submit_quietly,
            loop.run,
            loop.must_wait,
            loop.runner.note_refused,
            loop.early_refusal.check,
            check,
        ),
        *(ClientLimits(**limits), BodyBudget(budget)),
        *(max_connections, threads),
        *(channels.append, codes.append),
    )
    methods = all_methods(pool or Pool(), Admin(None, LogSwitches("info"), TraceRing(rows=1)), shared_memory)
    server = GrpcServer(address, methods, transport, tls)
    ended = threading.Event()

    def look():  # as a worker's main thread does
        while not ended.wait(_LOOK_S):
            loop.help_out()

    looking = threading.Thread(target=look)
    loop.start()
    looking.start()
    server.start()
    try:
        yield SimpleNamespace(
            address=address,
            server=server,
            loop=loop,
            counted=counted,
            transport=transport,
            channels=channels,
            codes=codes,
        )
    finally:
        server.stop(0)
        wait_until(lambda: not server.running)
        ended.set()
        looking.join(WAIT_S)
        loop.end(WAIT_S)
        assert not server.running


def full_name(method):
    """The name of a method of GRPCInferenceService in HTTP/2."""
    return f"/inference.GRPCInferenceService/{method}"


def ask(address, method, message, *, metadata=(), timeout=WAIT_S, **options):
    """Send one message to a method of GRPCInferenceService; its answer, with the trailing metadata."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(full_name(method))
        answer, rpc = call.with_call(message, metadata=metadata, timeout=timeout, **options)
        return answer, dict(rpc.trailing_metadata())


def refusal(address, method, message, **options):
    """The code and text by which a message is refused."""
    try:
        answer, _ = ask(address, method, message, **options)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"{method} was answered: {answer!r}")
