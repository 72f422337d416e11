"""Starts decoder processes, and talks with them."""

from __future__ import annotations

import array
import atexit
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from cpuserve.errors import VideoError
from cpuserve.machine.placement import Seat
from cpuserve.video.decoder_messages import Renew
from cpuserve.video.picture_slots import SlotViews

__all__ = ["DecoderChild", "DecoderServer", "shared_server"]

_STATUS_WAIT_S = 5.0  # the process that forks tells how a child ended right after it did


class DecoderServer:
    """Forks decoders from one process that has loaded FFmpeg, so that a new one costs milliseconds.

    That process is started with the first decoder and ends with this process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._ended: dict[int, int] = {}
        self._keepers = 0
        self._idle: list[_IdleDecoder] = []

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While it lasts, decoders that have done a file are kept for the next one."""
        with self._lock:
            self._keepers += 1
        try:
            yield
        finally:
            with self._lock:
                self._keepers -= 1
                ended = [] if self._keepers else self._idle
                self._idle = self._idle if self._keepers else []
            for one in ended:
                one.words.close()
                self.end(one.pid)

    def start(self) -> None:
        """Start the process that forks, without waiting until it can."""
        with self._lock:
            self._started()

    def decoder(self, seat: Seat | None) -> DecoderChild:
        """A decoder: one that was kept and runs in the same place, or a new one.

        Raises:
            VideoError: none could be started.
        """
        while True:
            with self._lock:
                found = next((one for one in self._idle if one.seat == seat), None)
                if found is None:
                    break
                self._idle.remove(found)
            if found.words.poll():  # it says nothing unasked: it has ended
                found.words.close()
                continue
            memory = os.memfd_create("cpuserve-video")
            child = DecoderChild(self, found.pid, found.words, memory, seat)
            child.send(Renew())
            child.send_descriptor(memory)
            return child
        return self.fork(seat)

    def keep(self, pid: int, words: Connection, seat: Seat | None) -> bool:
        """Take an idle decoder; False where none is kept."""
        with self._lock:
            if self._keepers:
                self._idle.append(_IdleDecoder(pid, words, seat))
            return bool(self._keepers)

    def fork(self, seat: Seat | None = None) -> DecoderChild:
        """A new decoder.

        Args:
            seat: where it will run, as it is told by `Begin`.

        Raises:
            VideoError: none could be started.
        """
        memory = os.memfd_create("cpuserve-video")
        ours, theirs = socket.socketpair()
        with theirs:
            rights = array.array("i", [theirs.fileno(), memory])
            for _ in range(2):  # once more where the process that forks has been killed
                with self._lock, suppress(OSError):
                    orders = self._started()
                    orders.sendmsg([b"fork"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                    while self._hear(orders):
                        if (pid := self._ended.pop(-1, None)) is not None:
                            return DecoderChild(self, pid, Connection(ours.detach()), memory, seat)
                self.close()
        ours.close()
        os.close(memory)
        raise VideoError("the process that starts decoders ends as soon as it is started")

    def ending(self, pid: int) -> str:
        """How a decoder ended, in words."""
        with self._lock, suppress(OSError):
            if self._orders is not None:
                self._orders.settimeout(_STATUS_WAIT_S)
                while pid not in self._ended and self._hear(self._orders):
                    pass
        status = self._ended.pop(pid, None)
        if status is None:
            return "ended"
        if status >= 0:
            return f"ended with status {status}"
        name = signal.Signals(-status).name
        return f"was ended by {name}" + (" (memory may have run out)" if name == "SIGKILL" else "")

    def end(self, pid: int) -> None:
        """End a decoder, wherever it is. Its parent does so, for which no other process has its number."""
        with self._lock, suppress(OSError):
            if self._orders is not None:
                self._orders.send(str(pid).encode())

    def processes(self) -> list[int]:
        """Process ids: the process that forks, and the decoders."""
        with self._lock:
            if self._process is None:
                return []
            pid = self._process.pid
        with suppress(OSError):
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        return []

    def close(self) -> None:
        """End all decoders, and the process that forks them."""
        with self._lock:
            process, self._process = self._process, None
            orders, self._orders = self._orders, None
            idle, self._idle = self._idle, []
        for one in idle:
            one.words.close()
        if orders is not None:
            orders.close()
        if process is not None:
            process.wait()

    def _started(self) -> socket.socket:
        if self._orders is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, "-m", "cpuserve.video.decoder_process", str(theirs.fileno())]
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # Ctrl-C is for the command
                )
            self._orders = ours
        self._orders.settimeout(None)
        return self._orders

    def _hear(self, orders: socket.socket) -> bool:
        """Read one message; False when the process has ended. The pid of a new decoder is kept as -1's."""
        if not (heard := orders.recv(256)):
            return False
        message = json.loads(heard)
        if "forked" in message:
            self._ended[-1] = message["forked"]
        else:
            self._ended[message["ended"]] = message["status"]
        return True


class _IdleDecoder(NamedTuple):
    """A decoder that waits for a file."""

    pid: int
    words: Connection
    seat: Seat | None


class DecoderChild:
    """One decoder process for one file: a socket for messages, and memory for pictures."""

    def __init__(
        self, server: DecoderServer, pid: int, words: Connection, memory: int, seat: Seat | None
    ) -> None:
        self.pid = pid
        self._seat = seat
        self._gone = False
        self._server = server
        self._words = words
        self._memory = memory
        self._lock = threading.Lock()
        self.views = SlotViews(memory)

    def fileno(self) -> int:
        """The descriptor that can be waited for."""
        return self._words.fileno()

    def send(self, message: Any) -> None:
        """Send a message; one that has ended is noticed when it is heard."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._lock, suppress(OSError):
            if not self._gone:
                self._words.send_bytes(data)

    def hear(self) -> Any:
        """The next message.

        Raises:
            EOFError: the process has ended.
        """
        try:
            return pickle.loads(self._words.recv_bytes())  # noqa: S301  # of the own child
        except ConnectionResetError as error:
            raise EOFError from error

    def ending(self) -> str:
        """How it ended, in words."""
        return self._server.ending(self.pid)

    def send_descriptor(self, descriptor: int) -> None:
        """Give it an open file, behind the message that is about it."""
        with self._lock, suppress(OSError):
            reduction.send_handle(self._words, descriptor, self.pid)

    def end(self) -> None:
        """End it; `hear` then raises."""
        self._server.end(self.pid)

    def free(self, slot: int) -> None:
        """Let it use a slot again."""
        self.send(slot)

    def give_back(self) -> None:
        """Leave it to the next file, if decoders are kept: it must have nothing to do. Else it is ended.

        Views of its memory stay as they are.
        """
        with self._lock:
            gone, self._gone = self._gone, True
        if gone:
            return
        os.close(self._memory)
        if not self._server.keep(self.pid, self._words, self._seat):
            self._words.close()
            self._server.end(self.pid)

    def close(self) -> None:
        """End it. Views of its memory stay as they are."""
        with self._lock:
            gone, self._gone = self._gone, True
            if not gone:
                self._words.close()
                os.close(self._memory)
        if not gone:
            self._server.end(self.pid)


@cache
def shared_server() -> DecoderServer:
    """The server that all of this process share."""
    server = DecoderServer()
    atexit.register(server.close)
    return server
