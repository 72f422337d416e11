"""Decoders in processes of their own: the same pixels, and what happens when one of them ends or hangs."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpuserve.errors import TooMuchDecoding, UndecodableImage
from cpuserve.serving.decode import Decoder
from cpuserve.serving.decoder_guard import DecoderGuard, shared_guard
from tests.attack_pictures import animation, jpeg_of_scans, pages, png

ALL = frozenset(("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP"))
PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
BMP = cv2.imencode(".bmp", PIXELS)[1].tobytes()


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def decoders(guard):
    """Process ids of the children that decode."""
    return guard.processes()[1:]


@pytest.fixture
def guard():
    made = DecoderGuard(ALL, timeout_s=60)
    yield made
    made.close()


def test_the_pixels_are_those_that_are_decoded_here(guard, data_dir):
    files = [
        *sorted((data_dir / "images" / "formats").iterdir()),
        data_dir / "images" / "hot_dog.jpg",
        data_dir / "images" / "mug_8mp.jpg",
    ]
    pictures = [file.read_bytes() for file in files]
    pictures += [animation(".gif"), animation(".webp"), pages(), png(), BMP]
    for order in ("RGB", "BGR", "GRAY"):
        for exact in (True, False):
            for data in pictures:
                here = Decoder(order, exact).decode(data, 64, 64)
                there = Decoder(order, exact, guard=guard).decode(memoryview(data), 64, 64)
                assert np.array_equal(here.pixels, there.pixels)
                assert here[1:] == there[1:]
    assert len(decoders(guard)) == 1


def test_pixels_stay_when_the_next_picture_is_decoded(guard):
    decoder = Decoder("BGR", guard=guard)
    first = decoder.decode(BMP).pixels
    decoder.decode(png())
    assert np.array_equal(first, PIXELS)


def test_a_damaged_picture_is_refused_in_the_same_words(guard):
    for data in (BMP[:-2000], animation(".webp")[:110], pages()[:90]):
        with pytest.raises(UndecodableImage) as here:
            Decoder().decode(data)
        with pytest.raises(UndecodableImage) as there:
            Decoder(guard=guard).decode(data)
        assert str(here.value) == str(there.value)


def test_a_decoder_that_ends_costs_its_own_picture_only(guard):
    decoder = Decoder("BGR", guard=guard)
    decoder.decode(BMP)
    (pid,) = decoders(guard)
    os.kill(pid, signal.SIGSEGV)
    wait_until(lambda: not decoders(guard))
    with pytest.raises(UndecodableImage, match="BMP is damaged in a way that ended the process"):
        decoder.decode(BMP)
    assert np.array_equal(decoder.decode(BMP).pixels, PIXELS)
    assert decoders(guard) != [pid]


def test_a_decoder_past_its_time_is_ended():
    guard = DecoderGuard(ALL, timeout_s=0.05)
    # gigabytes of scans: seconds of work on any machine
    slow = jpeg_of_scans(1000, 2000, 2000)
    try:
        with pytest.raises(TooMuchDecoding, match=r"JPEG took more than 50 ms.*decode_timeout_ms"):
            Decoder(guard=guard, max_scan_pixels=10**12).decode(slow)
        wait_until(lambda: not decoders(guard))
    finally:
        guard.close()


def test_the_process_that_forks_is_started_again(guard):
    decoder = Decoder("BGR", guard=guard)
    decoder.decode(BMP)
    guard._parent[0].kill()
    guard._parent[0].wait()
    guard._idle.pop().close()
    assert np.array_equal(decoder.decode(BMP).pixels, PIXELS)


def test_threads_have_a_decoder_each(guard):
    barrier = threading.Barrier(4)

    def work(number):
        mine = np.full((48, 64, 3), number, np.uint8)
        data = cv2.imencode(".bmp", mine)[1].tobytes()
        barrier.wait(60)
        return all(np.array_equal(Decoder("BGR", guard=guard).decode(data).pixels, mine) for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert 1 <= len(decoders(guard)) <= 4


def test_all_of_them_end_with_the_guard():
    guard = DecoderGuard(ALL, timeout_s=60)
    Decoder(guard=guard).decode(BMP)
    process = guard._parent[0]
    (child,) = decoders(guard)
    guard.close()
    assert process.poll() == 0
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_memory_of_a_large_picture_is_given_back(guard):
    Decoder("BGR", guard=guard).decode(cv2.imencode(".bmp", np.zeros((3000, 3000, 3), np.uint8))[1].tobytes())
    assert os.fstat(guard._idle[0]._memory).st_size <= 16 << 20


def test_which_formats_are_guarded():
    assert shared_guard("none", 1000) is None
    assert shared_guard("rare", 1000).formats == {"WebP", "GIF", "TIFF", "BMP"}
    assert shared_guard("all", 1000).formats == ALL
    assert shared_guard("all", 1000) is shared_guard("all", 1000)
