"""Server reflection: tells tools which services and messages there are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from cpuserve.grpc.messages import file_of, message_class, parse
from cpuserve.grpc.method import Method, Task
from cpuserve.protocols.call import Call, Refusal, Reply

__all__ = ["ReflectionService"]

_VERSIONS = ("v1", "v1alpha")
_INVALID, _NOT_FOUND, _UNIMPLEMENTED = 3, 5, 12


class ReflectionService:
    """Both versions of the service, which differ by their names alone.

    Args:
        services: the full names of all other services.
    """

    services = tuple(f"grpc.reflection.{version}.ServerReflection" for version in _VERSIONS)

    def __init__(self, services: Sequence[str]) -> None:
        self._services = sorted((*services, *self.services))

    def methods(self) -> Sequence[Method]:
        """The methods of the service."""
        return [
            Method(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                *("GET", "/v2", partial(self._read, version)),
                at_once=True,
                wrap=_wrap,
            )
            for version in _VERSIONS
        ]

    def _read(self, version: str, data: bytes) -> Task:
        request = parse(message_class(f"grpc.reflection.{version}.ServerReflectionRequest"), data)
        return Task("/v2", partial(self._answer, version, request))

    def _answer(self, version: str, request: Any, _call: Call) -> Reply:
        response = message_class(f"grpc.reflection.{version}.ServerReflectionResponse")(
            valid_host=request.host, original_request=request
        )
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
        elif kind in ("file_by_filename", "file_containing_symbol"):
            wanted = getattr(request, kind)
            found = file_of(name=wanted) if kind == "file_by_filename" else file_of(symbol=wanted)
            if found:
                response.file_descriptor_response.file_descriptor_proto.extend(found)
            else:
                response.error_response.error_code = _NOT_FOUND
                response.error_response.error_message = f"there is no {wanted[:200]!r}"
        elif kind is None:
            response.error_response.error_code = _INVALID
            response.error_response.error_message = "the request asks for nothing"
        else:
            response.error_response.error_code = _UNIMPLEMENTED
            response.error_response.error_message = "messages of proto3 have no extensions"
        return Reply(200, response.SerializeToString(), [])


def _wrap(_data: bytes, reply: Reply) -> bytes | Refusal:
    """The answer itself; a refusal ends the stream."""
    return reply.refusal or reply.body
