"""Answers scaled frames by the replicas of a model that servers elsewhere have."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from cpuserve.errors import CpuserveError
from cpuserve.serving.decode import Pixels
from cpuserve.settings import Settings, load
from cpuserve.video.common_model import find_model
from cpuserve.video.frame_dispatcher import FrameDispatcher, Registered, WaitingFrame
from cpuserve.video.frame_model import SeenFrame
from cpuserve.video.held_interrupt import heard_result
from cpuserve.video.payload_choice import PayloadChoice, encode_jpeg, payload_choice
from cpuserve.video.replica import Replica
from cpuserve.video.replica_link import ReplicaTarget, ServedModel
from cpuserve.video.replica_links import connect
from cpuserve.video.replica_set import ReplicaSet
from cpuserve.video.scale import Scale, Scaler
from cpuserve.video.tensor_recipe import LocalRecipe

__all__ = ["Replicas"]

_log = logging.getLogger("cpuserve.video")
_MOST_WAITING_BYTES = 128 << 20
_Result = TypeVar("_Result")


class Replicas:
    """The replicas of one model. Several threads may use it; a context manager.

    It has the face of `FrameModel`: a scale, `submit`, `answer`, `close`. Frames go to the replica with the
    fewest, and elsewhere when it fails: none is lost, and none is answered twice.

    Example::

        with Replicas(["http://a:8000", "grpc://b:8001"], "ssd") as model:
            answer = model.answer(frame.scaled(model.scale), frame.width, frame.height)

    Attributes:
        scale: what a frame is scaled to before it is submitted.
        name: of the model.
        version: of the model.
        in_flight: frames that keep all replicas busy; `submit` takes more.
        checksum: of its files; empty where no server says it.
        notes: what a user should know of the choices made, one sentence each.

    Args:
        urls: of the servers: ``http``, ``https``, ``grpc`` or ``grpcs``; ``@FILE`` or ``@http://...`` is a
            registry, whose servers are followed (`cpuserve.endpoints.registry`).
        model: ``NAME`` or ``NAME/VERSION``. Without a version that of the first server that answers is used
            everywhere: a replica with another version or other files gets no frames.
        scaler: of the scale.
        payload: ``raw`` sends pixels, and answers equal local ones; ``jpeg`` sends fewer bytes, and answers
            differ a little; ``auto`` is raw unless sending costs more than answering.
        api_key: sent with every request; empty for none.
        in_flight: most requests that a replica has at a time.
        timeout_s: seconds for one answer.
        settings: where the model is on this machine too, which servers need that take tensors only (Triton,
            OpenVINO Model Server); None: the settings of environment and settings file.
        wait_s: seconds without any usable replica after which frames fail.
        checksum: of the model's files; replicas that say another one get no frames. Empty for any.

    Raises:
        UsageError: a URL is none, or given twice.
        CpuserveError: no replica serves the model within ``wait_s``; the message names each and its reason.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        *,
        scaler: Scaler = "bilinear",
        payload: PayloadChoice = "auto",
        api_key: str = "",
        in_flight: int = 4,
        timeout_s: float = 30.0,
        wait_s: float = 60.0,
        settings: Settings | None = None,
        checksum: str = "",
    ) -> None:
        self.in_flight, self._each = 2 * len(urls) * in_flight, in_flight
        self._room = _Room(_MOST_WAITING_BYTES)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replicas", daemon=True)
        self._thread.start()
        self._began_cpu_s = time.process_time()
        self._closed = False
        self._closing = threading.Lock()
        self._set: ReplicaSet | None = None
        self._dispatcher: FrameDispatcher | None = None
        try:
            recipe = LocalRecipe(model, settings or load({}))
            target = ReplicaTarget("", model, api_key, timeout_s, recipe, checksum)
            self._set = _replica_set(urls, target, in_flight)
            replicas = self._call(self._set.first(wait_s))
            self.in_flight = 2 * len(replicas) * in_flight
            served = self._call(find_model(replicas, model, wait_s))
            self._payload, self.notes = self._call(payload_choice(payload, replicas, served))
            registered = self._registered if self._set.follows else None
            self._dispatcher = self._call(_dispatcher(replicas, served, wait_s, registered))
        except BaseException:
            self.close()
            raise
        for note in self.notes:
            _log.warning("%s", note)
        self.name, self.version, self.checksum = served.name, int(served.version), served.checksum
        self.scale = Scale(
            *(served.width, served.height, served.colour, scaler),
            fit=served.fit,
            pad_value=served.pad_value,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(
        self, pixels: Pixels, width: int, height: int, *, topk: int | None = None
    ) -> Future[dict[str, Any]]:
        """Have a frame answered. Waits while very many bytes of frames are not answered yet.

        Not to be called from a callback of one of its futures.

        Args:
            pixels: u8 [scale.height, scale.width, C]; copied.
            width: of the frame before it was scaled.
            height: of the frame before it was scaled.
            topk: number of classes wanted; None for the model's own.

        Returns:
            The answer of ``/predictions/MODEL``, boxes in pixels of width x height. Its error is a
            `CpuserveError`: the frame is refused, or no replica is usable for too long.

        Raises:
            CpuserveError: the pixels do not have the shape of the scale, or this is closed.
        """
        return self._submit(pixels, width, height, topk, seen=False)

    def submit_seen(
        self, pixels: Pixels, width: int, height: int, *, topk: int | None = None
    ) -> Future[SeenFrame]:
        """As `submit`, with the mask of a segmentation."""
        return self._submit(pixels, width, height, topk, seen=True)

    def answer(self, pixels: Pixels, width: int, height: int, *, topk: int | None = None) -> dict[str, Any]:
        """The answer to a frame; see `submit`."""
        return self.submit(pixels, width, height, topk=topk).result()

    def _submit(
        self, pixels: Pixels, width: int, height: int, topk: int | None, *, seen: bool
    ) -> Future[Any]:
        shape = (self.scale.height, self.scale.width, self.scale.channels)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise CpuserveError(
                f"model {self.name} takes frames uint8 {list(shape)}, not {pixels.dtype} {list(pixels.shape)}"
            )
        if self._closed or self._dispatcher is None:
            raise CpuserveError(f"the replicas of {self.name} are closed")
        content = pixels.tobytes() if self._payload == "raw" else encode_jpeg(pixels, self.scale.colour)
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        self._room.take(len(content))
        answer.add_done_callback(lambda _: self._room.give(len(content)))
        frame = WaitingFrame(content, self._payload, width, height, answer, seen, topk)
        dispatcher = self._dispatcher
        if self._unless_closed(lambda: self._loop.call_soon_threadsafe(dispatcher.add, frame)) is None:
            answer.set_exception(CpuserveError(f"the replicas of {self.name} are closed"))
        return answer

    def report(self) -> dict[str, Any]:
        """What the replicas did, for a run's statistics; ``cpuserve video plan --from`` reads it.

        ``client_ms`` is CPU time of this process a frame since this was made, whatever it did besides.
        """
        reports = self._reports()
        answered = sum(report["frames"] for report in reports)
        spent = time.process_time() - self._began_cpu_s
        return {
            "model": self.name,
            "payload": self._payload,
            "frames": answered,
            "client_ms": round(1000 * spent / answered, 3) if answered else None,
            "replicas": reports,
        }

    def _reports(self) -> list[dict[str, Any]]:
        """Reports are made in the loop that changes what they are of."""

        async def made() -> list[dict[str, Any]]:
            return [replica.report() for replica in self._known]

        asked = self._unless_closed(lambda: self._start(made()))
        return [replica.report() for replica in self._known] if asked is None else heard_result(asked)

    @property
    def _known(self) -> Sequence[Replica]:
        return () if self._set is None else self._set.known

    async def _registered(self, before: Sequence[Replica]) -> Sequence[Replica]:
        """The replicas that a registry has now."""
        now = before if self._set is None else await self._set.current(before)
        self.in_flight = 2 * len(now) * self._each
        return now

    def close(self) -> None:
        """End the connections; frames without an answer fail."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            ended = self._start(_close(self._dispatcher, self._known))
        heard_result(ended)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _unless_closed(self, start: Callable[[], _Result]) -> _Result | None:
        """Give the loop something that it does before its end; None where that is under way."""
        with self._closing:
            return None if self._closed else start()

    def _call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return heard_result(self._start(work))

    def _start(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _replica_set(urls: Sequence[str], target: ReplicaTarget, in_flight: int) -> ReplicaSet:
    """Connections are made later, in the loop that uses them."""

    def made(url: str) -> Replica:
        return Replica(url, in_flight, link=connect(replace(target, url=url)))

    return ReplicaSet(urls, made)


async def _dispatcher(
    replicas: Sequence[Replica], served: ServedModel, wait_s: float, registered: Registered | None
) -> FrameDispatcher:
    return FrameDispatcher(replicas, served, wait_s, registered)


async def _close(dispatcher: FrameDispatcher | None, replicas: Sequence[Replica]) -> None:
    if dispatcher is not None:
        await dispatcher.close()
    await asyncio.gather(*(replica.link.close() for replica in replicas))


class _Room:
    """Lets frames in while they have fewer bytes than a limit, and one always."""

    def __init__(self, most: int) -> None:
        self._left, self._most = most, most
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait for the room, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= size or self._left == self._most)
            self._left -= size

    def give(self, size: int) -> None:
        """Give it back."""
        with self._changed:
            self._left += size
            self._changed.notify_all()
