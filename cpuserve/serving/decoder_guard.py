"""Decodes pictures in child processes, so that a decoder that crashes or hangs ends no worker."""

from __future__ import annotations

import array
import json
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cpuserve.errors import (
    CpuserveError,
    TooManyPixels,
    TooMuchDecoding,
    UndecodableImage,
    UnsupportedFormat,
)

__all__ = ["MESSAGE_BYTES", "DecoderGuard", "shared_guard"]

MESSAGE_BYTES = 1 << 16
_GUARDED = {
    "none": frozenset[str](),
    "rare": frozenset(("WebP", "GIF", "TIFF", "BMP")),
    "all": frozenset(("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP")),
}
_ERRORS = {
    error.__name__: error for error in (TooManyPixels, TooMuchDecoding, UndecodableImage, UnsupportedFormat)
}
_KEPT_BYTES = 16 << 20  # memory of an idle child; what a larger picture took goes back to the kernel
_GRACE_S = 5.0  # the child ends itself when its time is over; this limit is for a child that was stopped
_PAGE = mmap.PAGESIZE


class DecoderGuard:
    """Decodes pictures in child processes, one for each picture that is decoded at the same time.

    The children are forked by one process that has loaded the decoders, so that a new one costs milliseconds.
    It is started with the first picture, and all of them end with this process.

    Args:
        formats: which of `cpuserve.serving.picture_header.FORMATS` are decoded there.
        timeout_s: how long one picture may take.
    """

    def __init__(self, formats: frozenset[str], timeout_s: float) -> None:
        self.formats = formats
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._parent: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def decode(
        self, options: Mapping[str, Any], data: bytes | bytearray | memoryview, most_bytes: int, what: str
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """Decode one picture.

        Args:
            options: what `cpuserve.serving.decoder_process` decodes it by.
            data: the encoded file.
            most_bytes: of the pixels.
            what: the format, for messages.

        Returns:
            The pixels, and what else is known of them.

        Raises:
            UndecodableImage: it is damaged, or it ended the child.
            UnsupportedFormat: it is of a kind that is not decoded.
            TooManyPixels: it is larger than it may be.
            TooMuchDecoding: it took longer than ``timeout_s``.
            CpuserveError: no child could be started.
        """
        with self._lock:
            child = self._idle.pop() if self._idle else None
        child = child or self._fork()
        began = time.monotonic()
        try:
            answer = child.ask({**options, "timeout_s": self.timeout_s}, data, most_bytes)
        except OSError:  # it has ended, or was stopped
            child.close()
            if time.monotonic() - began >= self.timeout_s:
                raise TooMuchDecoding(
                    f"the {what} took more than {self.timeout_s * 1000:g} ms to decode "
                    "(setting decode_timeout_ms)"
                ) from None
            raise UndecodableImage(
                f"the {what} is damaged in a way that ended the process that decoded it"
            ) from None
        except BaseException:
            child.close()
            raise
        if "error" in answer:
            self._keep(child)
            raise _ERRORS[answer["kind"]](answer["error"])
        try:
            pixels = child.pixels(answer["shape"])
        finally:
            self._keep(child)
        return pixels, answer

    def processes(self) -> list[int]:
        """Process ids of the process that forks and of its children."""
        with self._lock:
            if self._parent is None:
                return []
            pid = self._parent[0].pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def drop_idle(self) -> None:
        """End the children that decode nothing now."""
        with self._lock:
            children, self._idle = self._idle, []
        for child in children:
            child.close()

    def close(self) -> None:
        """End all processes."""
        self.drop_idle()
        with self._lock:
            parent, self._parent = self._parent, None
        if parent is not None:
            parent[1].close()
            parent[0].wait()

    def _keep(self, child: _Child) -> None:
        child.shrink()
        with self._lock:
            self._idle.append(child)

    def _fork(self) -> _Child:
        """A new child; the process that forks it is started again if it has ended."""
        for _ in range(2):
            with self._lock:
                parent = self._parent = self._parent or _start()
            memory = os.memfd_create("cpuserve-decoder")
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                rights = array.array("i", [theirs.fileno(), memory])
                parent[1].sendmsg([b"fork"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                return _Child(ours, memory)
            except OSError:
                ours.close()
                os.close(memory)
                self._forget(parent)
            finally:
                theirs.close()
        raise CpuserveError("the process that decodes pictures exits as soon as it starts")

    def _forget(self, parent: tuple[subprocess.Popen[bytes], socket.socket]) -> None:
        with self._lock:
            if self._parent is parent:
                self._parent = None
                parent[1].close()
        parent[0].wait()


@cache
def shared_guard(which: str, timeout_ms: float) -> DecoderGuard | None:
    """The guard that all models of this process share.

    Args:
        which: the setting ``guarded_decoding``.
        timeout_ms: the setting ``decode_timeout_ms``.
    """
    return DecoderGuard(_GUARDED[which], timeout_ms / 1000) if _GUARDED[which] else None


def _start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "cpuserve.serving.decoder_process", str(theirs.fileno())]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C is for the command
        )
    return process, ours


class _Child:
    """One child: a socket for words, and memory that both processes map for files and pixels."""

    def __init__(self, words: socket.socket, memory: int) -> None:
        self._words = words
        self._memory = memory
        self._map, self._bytes = mmap.mmap(-1, 1), 0
        self._offset = 0

    def ask(
        self, options: Mapping[str, Any], data: bytes | bytearray | memoryview, most_bytes: int
    ) -> dict[str, Any]:
        """Have a file decoded.

        Raises:
            OSError: the child has ended.
        """
        length = memoryview(data).nbytes
        self._offset = _aligned(length)
        self._resize(max(self._bytes, self._offset + _aligned(most_bytes)))
        self._map[:length] = bytes(data) if isinstance(data, memoryview) else data
        self._words.settimeout(options["timeout_s"] + _GRACE_S)
        request = {**options, "length": length, "offset": self._offset, "memory": self._bytes}
        self._words.send(json.dumps(request).encode())
        heard = self._words.recv(MESSAGE_BYTES)
        if not heard:
            raise ConnectionResetError("the decoder has ended")
        answer: dict[str, Any] = json.loads(heard)
        return answer

    def pixels(self, shape: list[int]) -> npt.NDArray[np.uint8]:
        """A copy of what was decoded."""
        found = np.empty(shape, np.uint8)
        view = np.frombuffer(self._map, np.uint8, found.size, self._offset)
        found.reshape(-1)[:] = view
        del view  # it would keep the memory from being resized
        return found

    def shrink(self) -> None:
        """Free memory that the next picture is not likely to need."""
        if self._bytes > _KEPT_BYTES:
            self._resize(_KEPT_BYTES)

    def _resize(self, size: int) -> None:
        if size == self._bytes:
            return
        self._map.close()
        os.ftruncate(self._memory, size)
        self._map, self._bytes = mmap.mmap(self._memory, size), size

    def close(self) -> None:
        """Close the socket and memory, which ends the child."""
        with suppress(OSError):
            self._words.shutdown(socket.SHUT_RDWR)
        self._words.close()
        self._map.close()
        os.close(self._memory)


def _aligned(size: int) -> int:
    """``size`` rounded up to whole pages."""
    return -(-size // _PAGE) * _PAGE
