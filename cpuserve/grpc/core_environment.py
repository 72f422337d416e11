"""The environment variables that the worker sets for gRPC's core: `CORE_ENVIRONMENT`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CORE_ENVIRONMENT"]

CORE_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        # else it writes lines about whatever clients send: they could fill the log
        "GRPC_VERBOSITY": "NONE",
        # else a thread of its own reads the connections, and wakes that of the server for every event
        "GRPC_EXPERIMENTS": "-event_engine_listener,-event_engine_client",
    }
)
"""Variables and their values, unless they are set; before grpcio is imported."""
