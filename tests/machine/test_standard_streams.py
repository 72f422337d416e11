"""Descriptors 0 to 2 that are closed at the start, and what native code writes to stderr."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

SHOW = """
import json, os, sys
from cpuserve.machine.standard_streams import reserve
before = {number: os.path.exists(f"/proc/self/fd/{number}") for number in range(3)}
reserve()
print("to nobody", file=sys.stderr)
with open(OUT, "w") as file:
    json.dump([before, [os.readlink(f"/proc/self/fd/{number}") for number in range(3)], file.fileno()], file)
"""
WORKER = """
import logging, os, sys
logging.basicConfig(format="LOG %(name)s: %(message)s")
from cpuserve.machine.standard_streams import NativeOutput
output = NativeOutput()
output.take_over()
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2), ()])
def test_no_file_gets_the_number_of_a_standard_stream(tmp_path, closed):
    out = tmp_path / "out"
    words = " ".join(f"{number}>&-" for number in closed)
    script = SHOW.replace("OUT", repr(str(out)))
    subprocess.run(["/bin/sh", "-c", f'exec "$0" -c "$1" {words}', sys.executable, script], check=True)
    before, links, opened = json.loads(out.read_text())
    assert [before[str(number)] for number in range(3)] == [number not in closed for number in range(3)]
    assert all(links[number] == "/dev/null" for number in closed)
    assert opened > 2


def run(script):
    command = [sys.executable, "-c", WORKER + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_native_lines_come_in_the_logs_format():
    done = run(
        "os.write(2, b'libpng error: bad \\x1b[31m\\xff\\nhalf'); output.log()\n"
        "logging.getLogger('own').warning('hello'); print('plain', file=sys.stderr)\n"
        "os.write(2, b' a line\\n'); output.log(); os.write(2, b'last words'); output.log(ended=True)"
    )
    assert done.stderr.splitlines() == [
        "LOG cpuserve.native: libpng error: bad \\x1b[31m\\xff",
        "LOG own: hello",
        "plain",
        "LOG cpuserve.native: half a line",
        "LOG cpuserve.native: last words",
    ]


def test_of_lines_that_are_alike_the_first_is_written_and_the_rest_counted():
    done = run(
        "for n in range(30): os.write(2, b'E12 17:%d hpack.cc:7] bad te\\n' % n)\n"
        "os.write(2, b'another\\n'); output.log()\n"
        "os.write(2, b'E12 18:0 hpack.cc:7] bad te\\n'); output.log()"
    )
    assert done.stderr.splitlines() == [
        "LOG cpuserve.native: E12 17:0 hpack.cc:7] bad te (and 29 more lines like this)",
        "LOG cpuserve.native: another",
        "LOG cpuserve.native: E12 18:0 hpack.cc:7] bad te",
    ]


def test_a_full_pipe_keeps_nobody_waiting():
    done = run(
        "full = False\n"
        "for _ in range(100):\n"
        "    try: os.write(2, b'x' * 9999 + b'\\n')\n"
        "    except BlockingIOError: full = True\n"
        "assert full\n"
        "output.log(); os.write(2, b'\\nagain\\n'); output.log()"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("LOG cpuserve.native: " + "x" * 500 + " (and ")
    assert lines[-1].endswith("again")


def test_a_traceback_goes_where_it_went():
    done = run("raise ValueError('mine')")
    assert "ValueError: mine" in done.stderr


def test_the_parent_hears_the_last_words_of_a_child_that_crashed():
    done = run(
        "pid = os.fork()\n"  # the pipe is shared, as it is with a worker
        "if not pid: import ctypes; os.write(2, b'terminate called\\n'); os.abort()\n"
        "os.waitpid(pid, 0); output.log(ended=True); output.close()"
    )
    assert "LOG cpuserve.native: terminate called" in done.stderr.splitlines()


def test_nothing_written_is_no_line(caplog):
    from cpuserve.machine.standard_streams import NativeOutput

    output = NativeOutput()
    with caplog.at_level(logging.WARNING):
        output.log()
        output.log(ended=True)
    output.close()
    assert not caplog.records
    assert os.path.exists("/proc/self/fd/2")  # noqa: PTH110
