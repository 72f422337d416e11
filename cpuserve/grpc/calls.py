"""Begins the calls of a worker: finds their methods, limits them, counts their channels."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial

from cpuserve.grpc.brief_calls import BriefCalls
from cpuserve.grpc.core import CoreCall
from cpuserve.grpc.held_answers import HeldAnswers
from cpuserve.grpc.lasting_call import LastingCall
from cpuserve.grpc.method import Method
from cpuserve.grpc.open_call import FAILED, CallWorker, OpenCall
from cpuserve.grpc.open_streams import OpenStreams
from cpuserve.grpc.reading_turns import ReadingTurns
from cpuserve.grpc.slow_readers import SlowReaders
from cpuserve.grpc.stream_call import StreamCall
from cpuserve.grpc.transport import GrpcTransport
from cpuserve.grpc.unary_call import UnaryCall
from cpuserve.protocols.call import Refusal

__all__ = ["Calls"]

_log = logging.getLogger("cpuserve.grpc")
_LEAST_TURNS, _LEAST_STREAMS = 4, 32
_PATIENCE_S, _FEW_PATIENCE_S = 1.0, 0.1  # of messages that come slowly, while others wait
_LOOK_EVERY_S = 1.0
_CHANNEL_USED_S = 60.0
_MOST_NAME = 200
_SHARE_LASTING = 4  # of all calls that may be open: lasting ones leave room for others


class Calls:
    """Begins every call; the thread of the server calls all functions.

    Args:
        methods: that are served.
        transport: the worker's queue and limits.

    Attributes:
        latest: when the latest call came, on the clock of `time.monotonic`.
        held: sends the answers.
        brief: those that this thread runs itself.
    """

    def __init__(self, methods: Iterable[Method], transport: GrpcTransport) -> None:
        self.latest = 0.0
        self.held = HeldAnswers()
        self.brief = BriefCalls(
            transport.brief_paths, transport.run, transport.submit_quietly, transport.threads
        )
        self._methods = {method.name: method for method in methods}
        self._transport = transport
        self._open: set[OpenCall] = set()
        self._channels: dict[str, float] = {}  # the latest call of each
        self._look_due = 0.0
        most = transport.budget.limit // transport.limits.max_body_bytes
        timeout_s = transport.limits.request_timeout_s
        self._turns = ReadingTurns(max(_LEAST_TURNS, most), _PATIENCE_S, timeout_s)
        self._few = ReadingTurns(_LEAST_TURNS, _FEW_PATIENCE_S, timeout_s)  # of messages that should be small
        self._slow = SlowReaders(timeout_s)
        self._streams = OpenStreams(max(_LEAST_STREAMS, most))
        self._lasting = OpenStreams(max(1, transport.max_connections // _SHARE_LASTING))
        self._worker = CallWorker(transport, self.held, self._slow, self.brief)

    @property
    def due(self) -> float:
        """When `look` is to be called at the latest, on the clock of `time.monotonic`."""
        return min(self._look_due, self._turns.due, self._few.due, self._slow.due)

    def begin(self, core: CoreCall) -> None:
        """Begin a call."""
        method = self._methods.get(core.method)
        if method is None:
            self._refuse(core, "UNIMPLEMENTED", f"there is no method {core.method[:_MOST_NAME]}")
            return
        most = self._transport.max_connections
        if len(self._open) >= most:
            text = f"{most} calls are open in this worker (setting max_connections)"
            self._refuse(core, "RESOURCE_EXHAUSTED", text)
            return
        self.latest = time.monotonic()
        if not method.at_once:  # probes open a channel each
            self._channels[core.peer] = self.latest
        call = self._open_call(core, method)
        self._open.add(call)
        core.when_closed(partial(self._closed, call))
        try:
            call.start()
        except Exception:  # noqa: BLE001  # the client waits for an answer
            _log.exception("Error at the beginning of a call of %s", method.name)
            core.refuse(FAILED)

    def look(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._look_due <= now:
            self._look_due = now + _LOOK_EVERY_S
            self._count_channels(now)
            for call in tuple(self._open):
                if isinstance(call, LastingCall):
                    call.look()
            self._slow.find(self._open)
        self._turns.look()
        self._few.look()
        self._slow.look()

    def end_streams(self) -> None:
        """End the calls that go on by themselves once what they have asked for is answered."""
        for call in tuple(self._open):
            if isinstance(call, StreamCall | LastingCall):
                call.stop()

    def _open_call(self, core: CoreCall, method: Method) -> OpenCall:
        parts = core, method, self._worker
        if method.wrap is not None:
            return StreamCall(*parts, method.wrap, self._streams)
        if method.lasting:
            return LastingCall(*parts, self._few, self._lasting)
        return UnaryCall(*parts, self._few if method.small else self._turns)

    def _refuse(self, core: CoreCall, code: str, text: str) -> None:
        self._transport.count_answer(code)
        core.refuse(Refusal(code, text))

    def _closed(self, call: OpenCall, gone: bool) -> None:
        self._open.discard(call)
        call.closed(gone)

    def _count_channels(self, now: float) -> None:
        """Count the channels with a call in the last minute; health checks are none."""
        since = now - _CHANNEL_USED_S
        self._channels = {peer: latest for peer, latest in self._channels.items() if latest > since}
        self._transport.tell_channels(len(self._channels))
