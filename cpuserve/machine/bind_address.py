"""Writes a host and a port as one text."""

from __future__ import annotations

__all__ = ["bind_address"]


def bind_address(host: str, port: int) -> str:
    """An address as URLs, gunicorn and gRPC take it; that of IPv6 stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
