"""Connects to a replica by the scheme of its URL."""

from __future__ import annotations

from urllib.parse import urlsplit

from cpuserve.errors import MissingExtra, UsageError
from cpuserve.video.replica_link import ReplicaLink, ReplicaTarget

__all__ = ["connect"]


def connect(target: ReplicaTarget) -> ReplicaLink:
    """The connection to a server; to be called inside the loop that will use it.

    Args:
        target: the server.

    Raises:
        UsageError: the URL has another scheme or no host.
        MissingExtra: a package that it needs is not installed.
    """
    parts = urlsplit(target.url)
    try:
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https", "grpc", "grpcs"):
        raise UsageError(
            f"replica {target.url!r} is no URL of a server: http://HOST:PORT, https://HOST, "
            "grpc://HOST:PORT or grpcs://HOST:PORT"
        )
    if parts.query or parts.fragment:
        raise UsageError(f"replica {target.url!r} has a query or a fragment: a server's URL ends before it")
    if parts.scheme in ("grpc", "grpcs") and (parts.path or parts.username is not None):
        raise UsageError(
            f"replica {target.url!r} has a path or a user, which gRPC has no place for: "
            f"{parts.scheme}://HOST:PORT, and --api-key for a key"
        )
    if parts.scheme in ("http", "https"):
        try:
            from cpuserve.video.replica_http import HttpLink  # noqa: PLC0415  # an extra
        except ModuleNotFoundError as error:
            raise MissingExtra("replicas over HTTP need aiohttp", "video") from error
        return HttpLink(target)
    try:
        from cpuserve.video.replica_grpc import GrpcLink  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtra("replicas over gRPC need gRPC", "grpc") from error
    return GrpcLink(target)
