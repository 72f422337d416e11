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
from contextlib import suppress
from functools import cache
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cpuserve.errors import VideoError
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

    def fork(self) -> DecoderChild:
        """A new decoder.

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
                            return DecoderChild(self, pid, Connection(ours.detach()), memory)
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
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
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


class DecoderChild:
    """One decoder process: a socket for messages, and memory for pictures."""

    def __init__(self, server: DecoderServer, pid: int, words: Connection, memory: int) -> None:
        self.pid = pid
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

    def close(self) -> None:
        """End it. Views of its memory stay as they are."""
        with self._lock:
            if not self._words.closed:
                self._words.close()
                os.close(self._memory)
        self._server.end(self.pid)


@cache
def shared_server() -> DecoderServer:
    """The server that all of this process share."""
    server = DecoderServer()
    atexit.register(server.close)
    return server
