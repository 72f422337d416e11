"""The gRPC server of a worker: a thread takes what has come, and runs what is brief itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator

from cpuserve.grpc.calls import Calls
from cpuserve.grpc.core import CoreServer
from cpuserve.grpc.method import Method
from cpuserve.grpc.tls import Tls
from cpuserve.grpc.transport import GrpcTransport, channel_options
from cpuserve.machine.process_controls import block_signals, show_thread_name
from cpuserve.serving.stages import GRPC_THREAD

__all__ = ["GrpcServer"]

_log = logging.getLogger("cpuserve.grpc")
_START_S = 10.0
_LOOK_S = 0.2  # whether it is to stop
_BUSY_LOOK_S = 0.01  # whether calls are due
_PAUSE_S = 0.2
_LINGER_S = 1.0  # how long a server that stops waits for such a pause between calls
_HELD_PAUSE_S, _HELD_LINGER_S = 0.05, 0.3  # the same, while answers are held
_TOLD_S = 0.05
_ENDING_LOOK_S = 0.02
_ERROR_PAUSE_S = 0.01


class GrpcServer:
    """Serves gRPC in a thread of its own.

    Args:
        address: to listen on; all workers share it by ``SO_REUSEPORT``.
        methods: that are served.
        transport: the worker's queue and limits.
        tls: encrypts it; None for plain connections.
    """

    def __init__(
        self, address: str, methods: Iterable[Method], transport: GrpcTransport, tls: Tls | None = None
    ) -> None:
        self._address = address
        self._transport = transport
        self._tls = tls
        self._calls = Calls(methods, transport)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._timeout_s: float | None = None  # once it is to stop
        self._started = threading.Event()  # or failed

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen, unless it was told to stop before; returns when connections are taken."""
        with self._lock:
            if self._timeout_s is not None or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name=GRPC_THREAD, daemon=True)
            self._thread.start()
        self._started.wait(_START_S)

    def stop(self, timeout_s: float) -> None:
        """Take no new requests from now on; return at once, while those that are here are answered.

        Args:
            timeout_s: seconds until requests are cut off.
        """
        with self._lock:
            if self._timeout_s is None:
                self._timeout_s = timeout_s

    def _run(self) -> None:
        # gRPC's own threads have the name and the signals of the one that begins
        show_thread_name()
        block_signals()
        try:
            server = CoreServer(channel_options(self._transport), self._calls.begin)
            server.listen(self._address, self._tls)
            _log.info("gRPC at %s%s", self._address, "" if self._tls is None else ", with TLS")
            self._started.set()
            self._serve(server)
        except Exception:
            _log.exception("gRPC is not served any more by this worker")
            raise
        finally:
            self._started.set()

    def _serve(self, server: CoreServer) -> None:
        calls, brief = self._calls, self._calls.brief
        look_at = 0.0
        ending: Iterator[None] | None = None
        while not server.ended:
            if ending is None and self._timeout_s is not None:
                ending = self._end(server, self._timeout_s)
            try:
                if ending is not None:
                    next(ending)
                now, most_s = time.monotonic(), _LOOK_S if ending is None else _ENDING_LOOK_S
                if look_at <= now:
                    calls.look()
                    look_at = calls.due
                wait_s = 0.0 if brief.kept else max(0.0, min(look_at - now, most_s))
                if server.take_event(wait_s):
                    look_at = min(look_at, now + _BUSY_LOOK_S)  # what it began may be due sooner
                elif brief.kept:
                    brief.run_next()
            except Exception:  # noqa: BLE001  # the thread serves other calls too
                _log.exception("Error in the thread of gRPC; it goes on")
                time.sleep(_ERROR_PAUSE_S)  # should it come again at once, it must not fill the log

    def _end(self, server: CoreServer, timeout_s: float) -> Iterator[None]:
        """Shut gRPC down so that no call is lost; a step whenever events were taken.

        gRPC cancels calls that come after its shutdown, until their clients know of it. So it waits for a
        pause between calls, and then holds answers back until the channels were told: who waits for an answer
        sends nothing, and reads first that its channel is closing.
        """
        calls = self._calls
        yield from self._pause(_PAUSE_S, _LINGER_S)
        calls.held.hold()
        yield from self._pause(_HELD_PAUSE_S, _HELD_LINGER_S)
        server.stop()
        now = time.monotonic()
        told, cut = now + _TOLD_S, now + timeout_s
        while time.monotonic() < told:
            yield
        calls.held.release()
        calls.end_streams()
        while time.monotonic() < cut:
            yield
        server.cancel_all()
        while True:
            yield

    def _pause(self, pause_s: float, most_s: float) -> Iterator[None]:
        """Go on until there is a pause between calls, at most for some time."""
        end = time.monotonic() + most_s
        while time.monotonic() < min(end, self._calls.latest + pause_s):
            yield
