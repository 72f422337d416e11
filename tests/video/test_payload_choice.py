"""Pixels or JPEG, by what both cost on the way."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from cpuserve.video.payload_choice import encode_jpeg, payload_choice
from cpuserve.video.replica import Replica
from cpuserve.video.replica_link import FramesAnswered, ReplicaFailed, ServedModel

MODEL = ServedModel("m", "1", "", "image", 320, 320, "RGB", "standard", 0)


class Link:
    """A network that carries so many bytes in a second."""

    def __init__(self, rate, fails=False):
        self.rate, self.fails, self.sent = rate, fails, []

    async def ask(self, _model, request):
        if self.fails:
            raise ReplicaFailed("gone")
        self.sent.append(request.payload)
        await asyncio.sleep(0.002 + sum(map(len, request.contents)) / self.rate)
        return FramesAnswered([{}])


def choose(asked, *links, host="far"):
    replicas = [Replica(f"http://{host}:{at}", 4, up=True, link=link) for at, link in enumerate(links, 1)]
    return asyncio.run(payload_choice(asked, replicas, MODEL))


def test_a_slow_network_gets_jpeg_and_it_is_said():
    payload, (note,) = choose("auto", Link(2e6))
    assert payload == "jpeg"
    assert "--payload raw" in note


def test_a_fast_network_gets_pixels():
    assert choose("auto", Link(1e10)) == ("raw", [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_this_machine_gets_pixels_unmeasured(host):
    link = Link(1e6)
    assert choose("auto", link, host=host) == ("raw", [])
    assert link.sent == []


def test_what_was_asked_for_is_not_measured():
    link = Link(1e6)
    assert choose("raw", link)[0] == "raw"
    assert choose("jpeg", link)[0] == "jpeg"
    assert link.sent == []


def test_a_replica_that_fails_does_not_decide():
    assert choose("auto", Link(1e10), Link(1, fails=True)) == ("raw", [])
    assert choose("auto", Link(1, fails=True)) == ("raw", [])


@pytest.mark.parametrize(("colour", "channels"), [("RGB", 3), ("BGR", 3), ("GRAY", 1)])
def test_every_colour_order_becomes_a_jpeg(colour, channels):
    data = encode_jpeg(np.zeros((16, 24, channels), np.uint8), colour)
    assert data.startswith(b"\xff\xd8")
