"""What stands between py-spy and a process is said with the line that removes it."""

from __future__ import annotations

import os

import pytest

from cpuserve.profiling.pyspy import PySpy, folded_of, hindrance

ROOT_CAPS, NO_CAPS = "000001ffffffffff", "0000000000000000"


def tree(root, *, theirs=1000, mine=1000, caps=NO_CAPS, yama=None, seccomp=0):
    for name, user in (("7", theirs), ("self", mine)):
        folder = root / "proc" / name
        folder.mkdir(parents=True)
        status = f"Name:\tx\nUid:\t{user}\t{user}\t{user}\t{user}\nCapEff:\t{caps}\nSeccomp:\t{seccomp}\n"
        (folder / "status").write_text(status)
    if yama is not None:
        folder = root / "proc/sys/kernel/yama"
        folder.mkdir(parents=True)
        (folder / "ptrace_scope").write_text(f"{yama}\n")
    return root


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"theirs": 10001}, ["sudo -u '#10001'", "docker exec -u 10001", "cap_add: [SYS_PTRACE]"]),
        ({"yama": 1}, ["ptrace_scope is 1", "--cap-add SYS_PTRACE", "sysctl kernel.yama.ptrace_scope=0"]),
        ({"yama": 2}, ["ptrace_scope is 2", "{capabilities: {add: [SYS_PTRACE]}}"]),
        ({"yama": 3, "caps": ROOT_CAPS}, ["nobody may trace"]),
    ],
)
def test_each_hindrance_has_its_line(tmp_path, facts, words):
    said = hindrance(7, tree(tmp_path, **facts))
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "facts", [{}, {"yama": 0}, {"yama": 1, "caps": ROOT_CAPS}, {"theirs": 10001, "caps": ROOT_CAPS}]
)
def test_where_nothing_hinders_nothing_is_said(tmp_path, facts):
    assert hindrance(7, tree(tmp_path, **facts)) == ""


def test_a_filter_of_system_calls_is_blamed_only_when_tracing_has_failed(tmp_path):
    root = tree(tmp_path, seccomp=2, caps=ROOT_CAPS)
    assert hindrance(7, root) == ""
    assert "seccomp filter" in hindrance(7, root, tried=True)


def test_a_process_that_is_gone_is_said(tmp_path):
    assert "process 8 has ended" in hindrance(8, tree(tmp_path))


def test_the_raw_format_is_read_also_where_frames_hold_blanks():
    raw = 'process 1:"a b";main (x.py:1);run <lambda> (y z.py:2) 3\nmain (x.py:1) 2\n\nnonsense\n'
    assert folded_of(raw) == {'process 1:"a b";main (x.py:1);run <lambda> (y z.py:2)': 3, "main (x.py:1)": 2}


def test_a_process_without_python_is_refused_in_py_spys_words():
    reading, writing = os.pipe()
    child = os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0)])
    try:
        spy = PySpy(child, 100)
        why = spy.start() or spy.stop()[1]
        assert why.startswith("py-spy took no stacks; it said: ")
    finally:
        os.close(writing), os.close(reading)
        os.waitpid(child, 0)
