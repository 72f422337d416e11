"""A leashed program ends with the one that started it, although that one was killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from cpuserve.machine.process_controls import leashed

STARTER = """
import subprocess, sys
from cpuserve.machine.process_controls import leashed
code = "import time; print('on', flush=True); time.sleep(600)"
subprocess.run(leashed(sys.executable, "-c", code))
"""


def test_it_does_not_outlive_a_starter_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE) as starter:
        assert starter.stdout
        assert starter.stdout.readline() == b"on\n"
        os.kill(starter.pid, signal.SIGKILL)
        readable, _, _ = select.select([starter.stdout], [], [], 30)
        assert readable, "the program still has its end of the pipe"
        assert starter.stdout.read() == b""


def test_its_exit_code_and_words_are_the_programs():
    words = leashed(sys.executable, "-c", "print(3); exit(4)")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "3\n")


def test_it_starts_nothing_for_a_process_that_is_gone():
    words = leashed("true")
    words[3] = "1"
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has ended" in done.stderr
