"""Blocks: fields keep to themselves, rows belong to processes that live, other layouts are refused."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.sharedmem import block as module
from cpuserve.sharedmem.block import Block, link, start_time
from cpuserve.sharedmem.record import Bytes, Floats, Record, Text, Word, Words
from tests.forks import in_child


class Head(Record):
    generation = Word()
    flags = Bytes(3)
    rates = Floats(2)


class Row(Record):
    name = Text(12)
    pid = Word()
    samples = Words(3)


class Wider(Row):
    waiting = Word()


def made(rows=3, note=b""):
    return Block("cpuserve-test", 5, Head, Row, rows, note)


def file_of(name):
    return next(file for file in Path("/proc/self/fd").iterdir() if os.path.realpath(file) == link(name))


def test_every_field_keeps_to_itself_and_other_processes_see_it():
    block = made(note=b"a note")

    def write():
        block.head.generation = 2**64 - 1
        block.head.flags[:] = b"\xff\xff\xff"
        block.head.rates[1] = 0.5
        for number, row in enumerate(block.rows):
            row.name, row.pid = "\u00e4" * 6, 10 + number
            row.samples[:] = memoryview(bytes([number]) * 24).cast("Q")

    in_child(write)
    assert block.head.generation == 2**64 - 1
    assert list(block.head.flags) == [255] * 3
    assert list(block.head.rates) == [0.0, 0.5]
    assert [(row.name, row.pid) for row in block.rows] == [("\u00e4" * 6, 10 + number) for number in range(3)]
    assert block.rows[2].samples.tolist() == [0x0202020202020202] * 3
    assert block.note == b"a note"
    block.rows[1].clear()
    assert (block.rows[1].name, block.rows[1].pid, block.rows[1].samples[2]) == ("", 0, 0)
    assert (block.rows[0].pid, block.rows[2].pid) == (10, 12)


def test_a_text_that_is_too_long_is_refused_and_changes_nothing():
    row = made().rows[0]
    row.name = "twelve bytes"
    with pytest.raises(ValueError, match="name has 13 bytes, more than 12"):
        row.name = "thirteen byte"
    assert row.name == "twelve bytes"
    row.name = "one"
    assert row.name == "one"


def test_another_process_writes_into_it_and_a_copy_does_not_change():
    block = made(note=b"{}")
    block.rows[2].pid = 7
    known = (file_of("cpuserve-test"), "cpuserve-test", 5, Head, Row)
    copy, same = Block.snapshot(*known), Block.open(*known)
    same.head.generation = 9
    assert (block.head.generation, copy.head.generation) == (9, 0)
    assert [row.pid for row in copy.rows] == [0, 0, 7]
    assert copy.note == same.note == b"{}"


@pytest.mark.parametrize(
    ("version", "row", "message"),
    [(6, Row, "version 5, not 6 as here"), (5, Wider, "version 5, not 5 as here")],
)
def test_another_layout_is_refused(version, row, message):
    block = made()
    for way in (Block.open, Block.snapshot):
        with pytest.raises(ValueError, match=message):
            way(file_of(block.name), "cpuserve-test", version, Head, row)


@pytest.mark.parametrize("data", [b"", b"short", bytes(4096)])
def test_what_is_no_block_is_refused(tmp_path, data):
    file = tmp_path / "block"
    file.write_bytes(data)
    for way in (Block.open, Block.snapshot):
        with pytest.raises(ValueError, match="is no "):
            way(file, "cpuserve-test", 5, Head, Row)


def test_a_row_is_claimed_once_and_free_when_its_owner_has_ended():
    block = made(rows=2)
    assert block.claim(1) == 1

    def work():
        assert block.claim(1) == 0
        with pytest.raises(CpuserveError, match="all 2 rows of cpuserve-test"):
            block.claim(1)

    in_child(work)
    assert block.owners() == {1: os.getpid()}
    assert block.claim(1) == 0


def test_an_owner_that_died_and_is_not_waited_for_has_no_row():
    block = made(rows=1)
    child = os.fork()
    if child == 0:
        block.claim(0)
        os._exit(0)
    deadline = time.monotonic() + 60
    while start_time(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Path(f"/proc/{child}").exists()  # a zombie
    assert block.claim(0) == 0
    os.waitpid(child, 0)


def test_a_later_process_with_the_same_number_is_not_the_owner(monkeypatch):
    block = made(rows=1)
    block.claim(0)
    assert block.owner(0) == os.getpid()
    real = start_time(os.getpid())
    monkeypatch.setattr(module, "start_time", lambda _pid: real + 1)
    assert block.owner(0) == 0
    assert block.claim(0) == 0


def test_another_users_process_is_told_from_the_owner():
    """``kill(pid, 0)`` raises PermissionError for such a process; a row must not be lost to it."""
    if os.getuid():
        pytest.skip("needs root to become another user")
    block = made(rows=1)
    block.claim(0)
    block._owners[0] = 1  # process 1 has got the number of a worker that ended
    nobody = pwd.getpwnam("nobody")

    def as_nobody():
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
        with pytest.raises(PermissionError):
            os.kill(1, 0)
        assert block.owner(0) == 0
        assert block.claim(0) == 0

    in_child(as_nobody)


def test_start_times_of_what_lives_and_what_does_not():
    assert start_time(os.getpid()) > 0
    assert start_time(2**22 + 1) == 0
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert start_time(process.pid) > 0
        process.communicate(b"\n")
    assert start_time(process.pid) == 0


def test_a_name_with_spaces_and_brackets_hides_no_start_time(tmp_path):
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        deadline = time.monotonic() + 60
        while "a) Z" not in Path(f"/proc/{process.pid}/stat").read_text():
            assert time.monotonic() < deadline
        assert start_time(process.pid) >= start_time(os.getpid())
        process.kill()
