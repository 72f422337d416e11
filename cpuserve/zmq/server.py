"""The ZeroMQ server of a worker: its thread reads messages and sends answers, others make them."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from cpuserve.errors import CpuserveError
from cpuserve.machine.process_controls import block_signals, show_thread_name
from cpuserve.protocols.access import client_of
from cpuserve.protocols.body_budget import BodyBudget, BodyShare
from cpuserve.protocols.call import Call
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.serving.stages import ZMQ_THREAD
from cpuserve.zmq.detector_message import ModelQuestion, PictureMessage, read, refusal_parts
from cpuserve.zmq.frigate_detector import FrigateDetector
from cpuserve.zmq.zmq_call import ZmqCall

__all__ = ["ZmqServer", "ZmqTransport"]

_log = logging.getLogger("cpuserve.zmq")
_AHEAD = 16  # messages of one client that are read before it reads its answers
_LOOK_MS, _LOOK_STOPPING_MS = 1000, 20
_START_S = 10.0
_PAUSE_S = 0.2
_LINGER_S = 1.0  # how long a server that stops waits for such a pause between messages
_SEND_MS = 1000  # for answers that are on their way when it ends
_TELL_EVERY_S = 10.0
_MODEL_WAIT_S = 20.0  # Frigate waits 30 s for a model, and detects nothing until its restart where none came
_MODEL_LOOK_MS = 200
_MOST_QUESTIONS = 100  # that wait for a model; the oldest is answered for each one more


@dataclass(frozen=True)
class ZmqTransport:
    """What the ZeroMQ server needs of its worker.

    Attributes:
        submit: puts a call into the worker's queue.
        note_refused: counts and logs a request that was refused before that.
        check: raises an error when a request may not go on; None lets all of them in.
        limits: what a client may take.
        budget: the memory for bodies.
    """

    submit: Callable[[ZmqCall], None]
    note_refused: Callable[[Call, str, CpuserveError], None]
    check: Callable[[Call], None] | None
    limits: ClientLimits
    budget: BodyBudget


class ZmqServer:
    """Serves ZeroMQ from a thread of its own.

    Args:
        listening: listening sockets by their endpoint; all workers share them, and each takes the
            connections that it accepts. This server closes its own copies only.
        detector: answers the messages.
        transport: the worker's queue and limits.
    """

    def __init__(
        self, listening: Mapping[str, int], detector: FrigateDetector, transport: ZmqTransport
    ) -> None:
        self._listening = listening
        self._detector = detector
        self._transport = transport
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._answers: deque[tuple[int, ZmqCall, list[bytes], list[bytes]]] = deque()
        self._under_way: dict[int, set[ZmqCall]] = {}  # by the number of their connection's socket
        self._questions: deque[tuple[float, list[bytes], str]] = deque()  # when, to whom, about what
        self._waiting = 0  # requests without an answer; of the thread of ZeroMQ alone
        self._timeout_s: float | None = None  # once it is to stop
        self._started = threading.Event()  # or failed
        self._heard = 0.0  # when a message came last
        self._told = -math.inf  # when a refusal was last logged

    @property
    def running(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Accept connections, unless it was told to stop before; returns when they are accepted."""
        with self._lock:
            if self._timeout_s is not None or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name=ZMQ_THREAD, daemon=True)
            self._thread.start()
        self._started.wait(_START_S)

    def stop(self, timeout_s: float) -> None:
        """End soon; return at once, while the messages that are here are answered.

        Args:
            timeout_s: seconds until requests are cut off.
        """
        with self._lock:
            if self._timeout_s is None:
                self._timeout_s = timeout_s
            if self.running:
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        show_thread_name()
        block_signals()
        try:
            with (
                zmq.Context() as context,
                context.socket(zmq.ROUTER) as socket,
                socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as self._ends,
            ):
                self._listen(socket)
                self._started.set()
                self._serve(socket)
        except Exception:
            _log.exception("ZeroMQ is not served any more by this worker")
            raise
        finally:
            self._started.set()

    def _listen(self, socket: zmq.Socket[bytes]) -> None:
        options = {
            zmq.MAXMSGSIZE: self._transport.limits.max_body_bytes,
            zmq.RCVHWM: _AHEAD,
            zmq.SNDHWM: _AHEAD,
            zmq.LINGER: _SEND_MS,
            zmq.TCP_KEEPALIVE: 1,  # else a client whose machine has gone stays connected for ever
            zmq.IPV6: 1,
        }
        for option, value in options.items():
            socket.setsockopt(option, value)
        for endpoint, number in self._listening.items():
            socket.setsockopt(zmq.USE_FD, os.dup(number))
            socket.bind(endpoint)
            _log.info("Frigate's detector at %s, by model %s", endpoint, self._detector.model)

    def _serve(self, socket: zmq.Socket[bytes]) -> None:
        """Read and answer messages until it is told to stop, and those that are here are answered.

        ZeroMQ cannot stop to accept and keep the connections that it has. So it goes on until there is a
        pause, and a client that makes none loses a message at most; its connection then finds another worker.
        """
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        poller.register(self._ends, zmq.POLLIN)
        end = linger_end = math.inf  # of answers, and of reading; on the clock of the process
        while True:
            look_ms = _MODEL_LOOK_MS if self._questions else _LOOK_MS
            ready = dict(poller.poll(look_ms if end == math.inf else _LOOK_STOPPING_MS))
            if self._wake in ready:
                os.eventfd_read(self._wake)
            now = time.monotonic()
            if socket in ready and now < linger_end:
                self._heard = now
                self._read_all(socket)
            self._note_ends()
            self._answer_questions(socket, math.inf if self._timeout_s is not None else now)
            while self._answers:
                number, waiting, envelope, parts = self._answers.popleft()
                self._waiting -= 1
                self._under_way.get(number, set()).discard(waiting)
                socket.send_multipart([*envelope, *parts])
            if self._timeout_s is not None and end == math.inf:
                end, linger_end = now + self._timeout_s, now + min(self._timeout_s, _LINGER_S)
            quiet = now >= min(linger_end, self._heard + _PAUSE_S)
            if now >= end or (end < math.inf and quiet and not self._waiting):
                return

    def _read_all(self, socket: zmq.Socket[bytes]) -> None:
        """Read the messages that are here."""
        for _ in range(_AHEAD):  # answers have their turn between
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._note_ends()  # of connections whose number this message's may have now
            # a REQ socket puts an empty part between its identity and the message
            sizes = [len(frame) for frame in frames]
            if 0 not in sizes:
                self._tell("a message without an envelope was dropped: clients have a REQ socket")
                continue
            begin = sizes.index(0) + 1
            envelope = [frame.bytes for frame in frames[:begin]]
            self._take(socket, envelope, frames[begin:])

    def _take(self, socket: zmq.Socket[bytes], envelope: list[bytes], frames: Sequence[zmq.Frame]) -> None:
        """Answer a message, or queue it."""
        share, transport = BodyShare(self._transport.budget), self._transport
        address = _address_of(frames[0]) if frames else ""
        call = Call("POST", "/", "", {}, b"", transport.limits, address, client_of(address))
        try:
            if transport.check is not None:
                transport.check(call)
            share.take(sum(len(frame) for frame in frames))
            message = read([frame.buffer for frame in frames])
        except CpuserveError as error:
            share.release()
            transport.note_refused(call, call.path, error)
            self._tell(f"a message was refused: {error.public_text}")
            socket.send_multipart([*envelope, *refusal_parts(error.public_text)])
            return
        if isinstance(message, PictureMessage):
            self._waiting += 1
            number = int(frames[0].get(zmq.SRCFD))

            def send(parts: list[bytes]) -> None:
                self._answers.append((number, waiting, envelope, parts))
                os.eventfd_write(self._wake, 1)

            waiting = ZmqCall(call, message.pixels, self._detector, share, send)
            self._under_way.setdefault(number, set()).add(waiting)
            transport.submit(waiting)
            return
        share.release()
        if isinstance(message, ModelQuestion):
            self._questions.append((time.monotonic() + _MODEL_WAIT_S, envelope, message.name))
        else:
            socket.send_multipart([*envelope, self._detector.upload(message.name)])

    def _answer_questions(self, socket: zmq.Socket[bytes], now: float) -> None:
        """Answer who asked for the model, once it is there or they have waited long enough."""
        questions = self._questions
        while questions and (
            len(questions) > _MOST_QUESTIONS or questions[0][0] <= now or not self._detector.absent
        ):
            _, envelope, name = questions.popleft()
            socket.send_multipart([*envelope, self._detector.question(name)])

    def _note_ends(self) -> None:
        """Tell the requests of connections that have ended that nobody waits for them."""
        while True:
            try:
                event = recv_monitor_message(self._ends, zmq.NOBLOCK)
            except zmq.Again:
                return
            for waiting in self._under_way.pop(event["value"], ()):
                waiting.abandon()

    def _tell(self, text: str) -> None:
        """Log why a message was refused, now and then: Frigate shows nothing of it."""
        now = time.monotonic()
        if now >= self._told + _TELL_EVERY_S:
            self._told = now
            _log.warning("%s", text)


def _address_of(frame: zmq.Frame) -> str:
    """The address of the client that sent a part of a message; empty for a local one."""
    try:
        address = str(frame.get("Peer-Address"))
        ipaddress.ip_address(address)
    except (zmq.ZMQError, ValueError):  # ipc:// has none, or the ids of a process
        return ""
    return address
