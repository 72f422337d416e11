"""A call that came over ZeroMQ and waits in the worker's queue for its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

from cpuserve.errors import CpuserveError
from cpuserve.protocols.body_budget import BodyShare
from cpuserve.protocols.call import Call, Reply, answer, error_reply
from cpuserve.protocols.urgency import Urgency, urgency_of
from cpuserve.serving.decode import Pixels
from cpuserve.zmq.detector_message import answer_parts, refusal_parts
from cpuserve.zmq.frigate_detector import FrigateDetector

__all__ = ["ZmqCall"]


class ZmqCall:
    """A picture whose objects are asked for; any thread may answer it, the thread of ZeroMQ sends the answer.

    Args:
        call: the request, without its body.
        pixels: u8 [H, W, 3], RGB.
        detector: answers it.
        share: of the memory for bodies; given back with the answer.
        send: called once with the parts of the answer, by any thread.
    """

    def __init__(
        self,
        call: Call,
        pixels: Pixels,
        detector: FrigateDetector,
        share: BodyShare,
        send: Callable[[list[bytes]], None],
    ) -> None:
        call.path = f"/predictions/{quote(detector.model, safe='')}"
        call.arrived_ns = time.perf_counter_ns()
        call.handler = lambda call: answer(self._detect, call)
        self.call = call
        self._pixels: Pixels | None = pixels
        self._detector = detector
        self._share = share
        self._send = send
        self._left = False

    @property
    def has_body(self) -> bool:
        """True: it infers."""
        return True

    @property
    def target(self) -> str:
        """The path of the HTTP call that asks for the same."""
        return self.call.path

    def abandon(self) -> None:
        """Tell that its client has gone."""
        self._left = True

    def has_left(self) -> bool:
        """Whether its client has gone."""
        return self._left

    def urgency(self, default_timeout_s: float) -> Urgency:
        """Its deadline; its time runs from now."""
        urgency = urgency_of(self.call, default_timeout_s)
        self.call.due = time.monotonic() + urgency.timeout_s
        return urgency

    def answer(self, reply: Reply, *, last: bool = False) -> None:
        """Send its answer; one that was refused finds nothing, as Frigate has no word for errors."""
        del last
        self._pixels = None
        self._share.release()
        refusal = reply.refusal
        self._send(answer_parts(reply.body) if refusal is None else refusal_parts(refusal.text))

    def refuse(self, error: CpuserveError) -> None:
        """Answer it with an error."""
        self.answer(error_reply(error))

    def _detect(self, call: Call) -> Reply:
        pixels, self._pixels = self._pixels, None
        if pixels is None:
            raise RuntimeError("a picture is answered once")
        return self._detector.detect(pixels, call)
