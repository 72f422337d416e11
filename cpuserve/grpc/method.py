"""What one gRPC method is: its name, the HTTP call it stands for, and what reads its messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from cpuserve.errors import NotSupported
from cpuserve.grpc.messages import parse
from cpuserve.protocols.call import Call, Handler, Refusal, Reply, answer

__all__ = ["Method", "Task", "model_path", "plain_method", "refused_method"]

_PATHS = 256  # that are kept


@dataclass(frozen=True, slots=True)
class Task:
    """What a message asks for.

    Attributes:
        path: of the HTTP call that asks for the same; admission knows by it how long it takes.
        handler: answers it in a thread of the worker; the reply's body is the message to send.
        infers: whether it counts among the requests that infer.
        timeout_s: seconds the message itself gives it.
        priority: that the message names; None for none.
        shared_bytes: that it reads out of shared memory.
    """

    path: str
    handler: Callable[[Call], Reply]
    infers: bool = False
    timeout_s: float = math.inf
    priority: int | None = None
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a gRPC service.

    Attributes:
        name: as HTTP/2 has it: a slash, the full name of the service, a slash, the method.
        verb: of the HTTP call that asks for the same.
        path: of that call without the model's name: by both, access keys and limits are checked before the
            message is read.
        read: makes a task of a message; raises an error for one that is refused.
        small: whether its messages are small: they hold no tensors.
        at_once: whether it is answered before all that waits, as health checks are.
        wrap: of a method whose requests and answers are streams: makes the answer to a request of its reply;
            a refusal ends the stream. None for one of single messages.
        lasting: whether a call of it stays open, and is answered again whenever the answer has changed.
    """

    name: str
    verb: str
    path: str
    read: Callable[[bytes], Task]
    small: bool = False
    at_once: bool = False
    wrap: Callable[[bytes, Reply], bytes | Refusal] | None = None
    lasting: bool = False


@lru_cache(maxsize=_PATHS)
def model_path(name: str, version: str, end: str = "") -> str:
    """The path of V2's call about a model; whatever the name holds stays inside its part of the path."""
    path = f"/v2/models/{quote(name, safe='')}"
    if version:
        path += f"/versions/{quote(version, safe='')}"
    return path + end


def plain_method(
    name: str,
    verb: str,
    path: str,
    request: Any,
    handler: Handler,
    reply: Callable[[Reply], bytes],
    *,
    place: Callable[[Any], tuple[str, tuple[str, ...]]] | None = None,
    body: Callable[[Any], bytes] | None = None,
    at_once: bool = False,
    lasting: bool = False,
) -> Method:
    """A method that a handler of an HTTP route answers.

    Args:
        name: of the method.
        verb: of the route.
        path: of the route, without the model's name.
        request: class of the request message.
        handler: of the route.
        reply: makes the answer message of the handler's reply.
        place: gives of a message the path of the call and the handler's arguments; None where there are none.
        body: gives of a message the body of the call; None where it has none.
        at_once: see `Method`.
        lasting: see there.
    """

    def read(data: bytes) -> Task:
        message = parse(request, data)
        where, arguments = place(message) if place is not None else (path, ())

        def handle(call: Call, *arguments: str) -> Reply:
            if body is not None:
                call.data = body(message)
            return handler(call, *arguments)

        def run(call: Call) -> Reply:
            found = answer(handle, call, *arguments)
            if found.refusal is None:
                found.body = reply(found)
            return found

        return Task(where, run)

    return Method(name, verb, path, read, small=True, at_once=at_once, lasting=lasting)


def refused_method(name: str, verb: str, path: str, why: str) -> Method:
    """A method that is here to say why it is not answered, whatever its message holds.

    Args:
        name: of the method.
        verb: of a route that needs the same keys.
        path: of that route.
        why: and what to do instead.
    """

    def read(_data: bytes) -> Task:
        raise NotSupported(why)

    return Method(name, verb, path, read, small=True)
