"""Mailboxes: a busy worker leaves a waiting request and its connection there for an idle worker.

The arbiter makes one for each row of the worker table before it forks; every worker can write into all of
them and reads its own. A message holds the request as it was read and the descriptors of the connection and,
where there is a body, of an anonymous file with the body: nothing is copied through the arbiter.
"""

from __future__ import annotations

import array
import marshal
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cpuserve.http.head import Head

__all__ = ["Mailboxes", "WaitingRequest"]

_MESSAGE_BYTES = 1 << 17  # a head is limited to 100 fields of 8 KiB, but one that large stays where it is
_DESCRIPTORS = 2
_NAME = "cpuserve-request"


@dataclass(frozen=True)
class WaitingRequest:
    """A whole request that waits for a thread, and the connection it came on.

    Attributes:
        sock: of the client; whoever holds the request owns it.
        peer: the client's address and port; None for a local client.
        head: of the request.
        address: where it comes from, behind trusted proxies.
        client: who it is counted against.
        answer_headers: headers that its answer gets beside those of the handler.
        body: empty where there is none.
        has_body: whether the request came with one.
        behind: bytes that came behind it.
        arrived_ns: when it was whole, on the clock of `time.perf_counter_ns`, which all processes share.
        due: its deadline, on the clock of `time.monotonic`.
    """

    sock: socket.socket
    peer: tuple[str, int] | None
    head: Head
    address: str
    client: str
    answer_headers: Sequence[tuple[str, str]]
    body: bytes | bytearray | memoryview
    has_body: bool
    behind: bytes
    arrived_ns: int
    due: float


class Mailboxes:
    """One mailbox per row of the worker table.

    Args:
        count: of the rows.
    """

    def __init__(self, count: int) -> None:
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
        for pair in self._pairs:
            for end in pair:
                end.setblocking(False)

    def close(self) -> None:
        """Close this process's ends; what is in the mailboxes is lost when no process has any."""
        for pair in self._pairs:
            for end in pair:
                end.close()

    def number(self, line: int) -> int:
        """The descriptor that is readable when something is in the mailbox of a line."""
        return self._pairs[line][1].fileno()

    def send(self, line: int, request: WaitingRequest) -> bool:
        """Leave a request for the worker of a line, which then owns the connection.

        The caller closes its own socket of it when this succeeded.

        Returns:
            Whether it was left there; False when it does not fit, or the mailbox is full.
        """
        fields = (
            *(request.peer, request.head.fields(), request.address, request.client),
            *(list(request.answer_headers), request.has_body, request.behind),
            *(request.arrived_ns, request.due),
        )
        message = marshal.dumps(fields)
        if len(message) > _MESSAGE_BYTES:
            return False
        descriptors = [request.sock.fileno()]
        body = _body_file(request.body) if len(request.body) else None
        try:
            if body is not None:
                descriptors.append(body)
            try:
                socket.send_fds(self._pairs[line][0], [message], descriptors)
            except OSError:  # full, or out of descriptors in flight: the request stays with the caller
                return False
            return True
        finally:
            if body is not None:
                os.close(body)

    def receive(self, line: int) -> WaitingRequest | None:
        """Take the oldest request out of the mailbox of a line; None when it is empty."""
        try:
            message, ancillary, _, _ = self._pairs[line][1].recvmsg(
                _MESSAGE_BYTES,
                socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize),
                socket.MSG_CMSG_CLOEXEC,
            )
        except (BlockingIOError, InterruptedError):
            return None
        found = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
        descriptors = found.tolist()
        sock = socket.socket(fileno=descriptors[0])
        body: bytes = b""
        if len(descriptors) > 1:
            with os.fdopen(descriptors[1], "rb", buffering=0) as file:
                body = file.readall() or b""
        peer, head, address, client, more, *rest = marshal.loads(message)  # noqa: S302  # our own workers'
        return WaitingRequest(sock, peer, Head(*head), address, client, more, body, *rest)

    def empty(self, line: int) -> int:
        """Close the connections in the mailbox of a worker that died; how many there were."""
        count = 0
        while (request := self.receive(line)) is not None:
            request.sock.close()
            count += 1
        return count


def _body_file(body: bytes | bytearray | memoryview) -> int:
    """The descriptor of an anonymous file that holds a body, at its beginning."""
    descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    return descriptor
