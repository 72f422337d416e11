"""The process that forks decoders for `DecoderGuard`, and the loop of each decoder.

Run as ``python -m cpuserve.serving.decoder_process SOCKET``. It serves the process that started it and ends
when that one has closed its end of the socket, however that came.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.serving.decode import Decoder
from cpuserve.serving.decoder_guard import MESSAGE_BYTES

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Fork a decoder for each pair of a socket and a memory file that arrives."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(
            number, signal.SIG_IGN
        )  # the worker finishes its requests first; then the socket closes
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    orders = socket.socket(fileno=int(sys.argv[1]))
    while True:
        heard, descriptors, _, _ = socket.recv_fds(orders, 16, 2)
        if not heard:
            return
        here = os.getpid()
        if os.fork() == 0:
            orders.close()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == here:
                with suppress(ConnectionError):  # who asked has ended without hearing the answer
                    _serve(socket.socket(fileno=descriptors[0]), descriptors[1])
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _serve(words: socket.socket, memory: int) -> None:
    """Decode one file after another until the socket is closed."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    mapped, size = mmap.mmap(-1, 1), 0
    while heard := words.recv(MESSAGE_BYTES):
        request = json.loads(heard)
        if request["memory"] != size:
            mapped.close()
            size = request["memory"]
            mapped = mmap.mmap(memory, size)
        # the signal's own action ends this process, wherever the decoder is
        signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
        answer = _decode(request, mapped)
        signal.setitimer(signal.ITIMER_REAL, 0)
        words.send(json.dumps(answer).encode())


def _decode(request: dict[str, Any], mapped: mmap.mmap) -> dict[str, Any]:
    decoder = Decoder(request["order"], request["exact"], request["max_pixels"], request["max_scan_pixels"])
    try:
        found = decoder.decode(mapped[: request["length"]], request["width"], request["height"])
    except RequestError as error:
        return {"error": str(error)[: MESSAGE_BYTES // 8], "kind": type(error).__name__}
    pixels, offset = found.pixels, request["offset"]
    if offset + pixels.nbytes > len(mapped):
        said = f"the picture has more pixels than its header says: {pixels.shape}"
        return {"error": said, "kind": "UndecodableImage"}
    view = np.frombuffer(mapped, np.uint8, pixels.size, offset)
    view[:] = pixels.reshape(-1)
    del view  # it would keep the memory from being closed
    return {
        "shape": pixels.shape,
        "orientation": found.orientation,
        "width": found.width,
        "height": found.height,
    }


if __name__ == "__main__":
    main()
