"""A socket that knows when the kernel had the last bytes it gave."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

from cpuserve.http.connection import Connection

__all__ = ["StampedSocket", "kernel_arrival_ns"]

_SO_TIMESTAMPNS = 35  # of <asm-generic/socket.h>; Python has no name for it
_OLDEST_NS = 60_000_000_000


class StampedSocket(socket.socket):
    """A socket with time stamps of what it received (``SO_TIMESTAMPNS``, man 7 socket).

    Bytes may lie in the kernel while all threads compute: only the stamp shows that wait.

    Attributes:
        stamp_ns: of the last bytes, nanoseconds since the epoch; 0 where the kernel gave none.
    """

    stamp_ns = 0

    @classmethod
    def of(cls, plain: socket.socket) -> StampedSocket:
        """The same connection; ``plain`` is of no use afterwards."""
        stamped = cls(plain.family, plain.type, plain.proto, plain.detach())
        stamped.setblocking(False)
        stamped.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        return stamped

    def recv(self, count: int, flags: int = 0, /) -> bytes:
        """As of any socket."""
        data, more, _, _ = self.recvmsg(count, 64, flags)
        self._note(more)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As of any socket; ``nbytes`` is the buffer's size."""
        count, more, _, _ = self.recvmsg_into([buffer], 64, flags)
        self._note(more)
        return count

    def _note(self, more: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in more:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("qq", data[:16])
                self.stamp_ns = seconds * 1_000_000_000 + nanoseconds


def kernel_arrival_ns(connection: Connection, arrived_ns: int) -> int:
    """When the kernel had the last byte of a connection's request, on the clock of `time.perf_counter_ns`.

    The first call for a connection turns the stamps on; they are there from its next request.

    Args:
        connection: its request is whole.
        arrived_ns: when that was read; given back where the kernel gave no stamp.
    """
    if isinstance(connection.sock, StampedSocket):
        stamped = connection.sock.stamp_ns - (time.time_ns() - time.perf_counter_ns())
        if arrived_ns - _OLDEST_NS < stamped < arrived_ns:
            return stamped
    elif connection.open:
        connection.sock = StampedSocket.of(connection.sock)
    return arrived_ns
