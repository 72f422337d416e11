"""Freed pictures are given back, however many there were before."""

import subprocess
import sys

import pytest

CODE = """
import sys
from pathlib import Path
from cpuserve.machine.heap import give_back_large_buffers

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "told" and not give_back_large_buffers():
    sys.exit(77)
del_me = bytearray(b"x") * (31 << 20)
del del_me  # from here on glibc by itself keeps such buffers in its heap
before = resident()
large = bytearray(b"x") * (30 << 20)
pins = [bytes(1000) for _ in range(200)]  # small blocks in use behind it
del large
print(resident() - before)
"""


def grown(how):
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    return int(done.stdout)


def test_a_large_buffer_goes_back_when_it_is_freed():
    assert grown("told") < 4 << 20
    assert grown("untold") > 25 << 20  # else there would be nothing to tell
