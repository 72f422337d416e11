"""The health service of gRPC, which orchestrators ask."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from cpuserve.errors import UnknownModel
from cpuserve.grpc.messages import message_class
from cpuserve.grpc.method import Method, plain_method
from cpuserve.protocols.call import Call, Reply
from cpuserve.protocols.v2 import V2
from cpuserve.serving.pool import Pool

__all__ = ["HealthService"]

_Request = message_class("grpc.health.v1.HealthCheckRequest")
_Response = message_class("grpc.health.v1.HealthCheckResponse")
_ListRequest = message_class("grpc.health.v1.HealthListRequest")
_ListResponse = message_class("grpc.health.v1.HealthListResponse")
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_STATUSES = {
    HTTPStatus.OK: _SERVING,
    HTTPStatus.SERVICE_UNAVAILABLE: _NOT_SERVING,
    HTTPStatus.NOT_FOUND: _SERVICE_UNKNOWN,
}
_READY = "/v2/health/ready"


class HealthService:
    """Says whether the server is ready, as ``/v2/health/ready`` does.

    Args:
        pool: the worker's models.
        services: the full names of all other services; all are ready together.
    """

    service = "grpc.health.v1.Health"

    def __init__(self, pool: Pool, services: Sequence[str]) -> None:
        self._v2 = V2(pool)
        self._services = ("", self.service, *services)

    def methods(self) -> Sequence[Method]:
        """The methods of the service."""
        return (
            plain_method(
                *(f"/{self.service}/Check", "GET", _READY, _Request, self._check, _status),
                place=lambda message: (_READY, (message.service,)),
                at_once=True,
            ),
            plain_method(
                *(f"/{self.service}/List", "GET", _READY, _ListRequest, self._v2.ready, self._list),
                at_once=True,
            ),
            plain_method(
                *(f"/{self.service}/Watch", "GET", _READY, _Request, self._watch, _status),
                place=lambda message: (_READY, (message.service,)),
                at_once=True,
                lasting=True,
            ),
        )

    def _list(self, reply: Reply) -> bytes:
        status = _Response.FromString(_status(reply))
        return bytes(_ListResponse(statuses=dict.fromkeys(self._services, status)).SerializeToString())

    def _check(self, call: Call, service: str) -> Reply:
        if service not in self._services:
            raise UnknownModel(f"there is no service {service[:80]!r}")
        return self._v2.ready(call)

    def _watch(self, call: Call, service: str) -> Reply:
        return self._v2.ready(call) if service in self._services else Reply(HTTPStatus.NOT_FOUND, b"", [])


def _status(reply: Reply) -> bytes:
    data: Any = _Response(status=_STATUSES[HTTPStatus(reply.status)]).SerializeToString()
    return bytes(data)
