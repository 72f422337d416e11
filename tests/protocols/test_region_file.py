"""The files of regions: how long they are open, and what their clients may do with them meanwhile."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest

from cpuserve.errors import RequestError
from cpuserve.protocols.region_file import RegionFile
from cpuserve.protocols.shared_memory import SharedMemory, SharedPlace

KEY = f"regionfile{os.getpid()}_"


@pytest.fixture
def file():
    """A client's memory of 16 bytes."""
    path = Path("/dev/shm") / KEY  # noqa: S108
    path.write_bytes(b"a" * 16)
    yield path
    path.unlink(missing_ok=True)


def opened():
    """How often this process has the memory open, removed or not."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(link.readlink()))
        except FileNotFoundError:  # of the listing itself
            continue
    return sum(KEY in link for link in links)


def read(region):
    target = bytearray(16)
    region.read(memoryview(target), 0)
    return bytes(target)


def test_it_is_opened_once_to_be_read_and_closed_with_its_region(file):
    region = RegionFile("r", KEY)
    region.check(16)
    assert opened() == 0
    for letter in b"abc":
        file.write_bytes(bytes([letter]) * 16)
        assert read(region) == bytes([letter]) * 16
        assert opened() == 1
    region.write(b"zz", 3)
    assert (opened(), read(region)) == (1, b"ccczz" + b"c" * 11)
    del region
    assert opened() == 0


def test_memory_that_is_removed_is_not_read_any_more_and_let_go(file):
    region = RegionFile("r", KEY)
    assert read(region) == b"a" * 16
    region.close_removed()
    assert opened() == 1
    file.unlink()
    region.close_removed()
    assert opened() == 0
    with pytest.raises(RequestError, match="cannot be opened"):
        read(region)
    file.write_bytes(b"b" * 16)
    assert read(region) == b"b" * 16
    file.unlink()
    file.write_bytes(b"c" * 16)
    assert (read(region), opened()) == (b"c" * 16, 1)


def test_memory_that_is_moved_is_let_go_too(file):
    region, elsewhere = RegionFile("r", KEY), file.with_name(KEY + "moved")
    try:
        assert read(region) == b"a" * 16
        file.rename(elsewhere)
        region.close_removed()
        assert opened() == 0
        with pytest.raises(RequestError, match="cannot be opened"):
            read(region)
        file.write_bytes(b"b" * 16)
        assert read(region) == b"b" * 16
        file.rename(elsewhere)
        file.write_bytes(b"c" * 16)
        region.close_removed()
        assert read(region) == b"c" * 16
    finally:
        elsewhere.unlink(missing_ok=True)


def test_memory_that_the_system_has_no_room_for_is_a_refusal(file):
    """Memory takes room only when it is written, and /dev/shm may be full by then."""
    region = RegionFile("r", KEY)
    os.truncate(file, 4096)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(RequestError, match="region 'r' cannot be written from byte 1000"):
            region.write(b"b" * 100, 950)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    region.write(b"b" * 100, 950)
    assert opened() == 0
    assert file.read_bytes()[950:1050] == b"b" * 100


def test_a_worker_lets_go_of_what_is_unregistered_or_removed(file):
    shared = SharedMemory(KEY)
    shared.tick()
    place = SharedPlace("r", 0, 16)
    for end in (lambda: shared.unregister("r"), file.unlink):
        shared.register("r", KEY, 0, 16)
        assert bytes(shared.read(place, 16, lambda _count: None)) == b"a" * 16
        shared.tick()
        assert opened() == 1
        end()
        shared.tick()
        assert opened() == 0


def test_memory_is_replaced_while_threads_read_it(file):
    region, found, faults = RegionFile("r", KEY), set(), []
    over = threading.Event()

    def reader():
        while not over.is_set():
            try:
                found.add(read(region))
            except RequestError:
                continue  # just then there was none, or an empty one
            except OSError as error:
                faults.append(error)

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(300):
            file.unlink()
            file.write_bytes(bytes([97 + number % 20]) * 16)
            region.close_removed()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not faults
    assert all(len(set(values)) == 1 for values in found)
    assert opened() <= 1
