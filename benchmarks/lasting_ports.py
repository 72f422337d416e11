"""Finds ports that stay free until a server that starts slowly listens on them."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

from cpuserve.errors import CpuserveError

__all__ = ["ports_for_later"]

_FIRST_PORT = 10000


def ports_for_later(count: int) -> list[int]:
    """Free ports below those that the kernel gives to outgoing connections.

    Ray opens many connections before its HAProxy listens, which ends if one of its ports is taken.

    Raises:
        CpuserveError: there are too few.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(_FIRST_PORT, first), max(0, first - _FIRST_PORT)):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise CpuserveError(f"fewer than {count} of the ports {_FIRST_PORT} to {first - 1} are free")
