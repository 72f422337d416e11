"""Chooses between pixels and JPEG for the way to the replicas, by what both cost there."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import simplejpeg

from cpuserve.serving.decode import Pixels
from cpuserve.video.replica import Replica
from cpuserve.video.replica_link import (
    FrameRefused,
    FrameRequest,
    Payload,
    ReplicaBusy,
    ReplicaFailed,
    ServedModel,
)

__all__ = ["PayloadChoice", "encode_jpeg", "payload_choice"]

PayloadChoice = Literal["auto", "raw", "jpeg"]
_TRIES = 3
_QUALITY = 90
_GAIN = 1.5  # that JPEG has to bring: its answers are not quite those to the pixels


async def payload_choice(
    asked: PayloadChoice, replicas: Sequence[Replica], model: ServedModel
) -> tuple[Payload, list[str]]:
    """The payload of a run, and what is to be said of it.

    It is chosen once, since answers to JPEG differ a little from those to pixels. It is raw for servers of
    this machine, and where no replica can be measured.

    Args:
        asked: what the user wants; ``auto`` measures both on the replicas that are up.
        replicas: as they are before the first frame.
        model: what they serve.
    """
    if asked != "auto":
        return asked, []
    far = [replica for replica in replicas if replica.up and not _is_here(replica.url)]
    pixels = _picture(model)
    measured = await asyncio.gather(*(_both_seconds(replica, model, pixels) for replica in far))
    found = [one for one in measured if one is not None]
    if not found:
        return "raw", []
    raw_s, jpeg_s = (sum(one[place] for one in found) for place in (0, 1))
    if raw_s <= _GAIN * jpeg_s:
        return "raw", []
    share = 1000 / len(found)
    return "jpeg", [
        f"frames are sent as JPEG: {raw_s * share:.0f} ms pass until one is answered that is sent as pixels, "
        f"{jpeg_s * share:.0f} ms as JPEG; answers differ a little from local ones (--payload raw: equal "
        "answers)"
    ]


def encode_jpeg(pixels: Pixels, colour: str) -> bytes:
    """Scaled pixels as a JPEG.

    Args:
        pixels: u8 [H, W, C].
        colour: their order: RGB, BGR or GRAY.
    """
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), _QUALITY, colour, colorsubsampling="Gray" if colour == "GRAY" else "420"
    )
    return data


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _picture(model: ServedModel) -> Pixels:
    """A picture that JPEG makes about as small as a photo: a slope with some noise."""
    rows, columns = np.mgrid[0 : model.height, 0 : model.width]
    noise = np.random.default_rng(1).integers(-6, 7, (model.height, model.width, model.channels))
    slope = (255 * (rows + columns) / (model.height + model.width))[..., None]
    pixels: Pixels = np.clip(slope + noise, 0, 255).astype(np.uint8)
    return pixels


async def _both_seconds(replica: Replica, model: ServedModel, pixels: Pixels) -> tuple[float, float] | None:
    """Seconds until a frame is answered as pixels and as JPEG, encoding included; the best of some tries."""
    payloads: tuple[Payload, Payload] = ("raw", "jpeg")
    best = dict.fromkeys(payloads, float("inf"))
    for _ in range(_TRIES):
        for payload in payloads:
            started = time.perf_counter()
            content = pixels.tobytes() if payload == "raw" else encode_jpeg(pixels, model.colour)
            try:
                await replica.link.ask(model, FrameRequest([content], payload, model.width, model.height))
            except (ReplicaBusy, ReplicaFailed, FrameRefused):
                return None
            best[payload] = min(best[payload], time.perf_counter() - started)
    return best["raw"], best["jpeg"]
