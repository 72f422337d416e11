"""Signals go to the main thread, also where it is another that would be asked first, and children get all."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

from cpuserve.machine.process_controls import leashed
from cpuserve.machine.thread_signals import leave_signals_to_main_thread

BLOCKED = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"


def in_thread(work):
    found = []

    def run():
        leave_signals_to_main_thread()
        found.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_and_those_it_starts_take_none_of_a_servers_signals():
    def blocked():
        return signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def started_there():
        found = []
        thread = threading.Thread(target=lambda: found.append(blocked()))
        thread.start()
        thread.join()
        return found[0]

    for found in (in_thread(blocked), in_thread(started_there)):
        assert {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP} <= found
        assert signal.SIGSEGV not in found
        assert signal.SIGALRM not in found
    assert not blocked()


def test_a_program_on_a_leash_takes_the_signal_that_ends_it():
    def start():
        command = leashed(sys.executable, "-c", BLOCKED)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert in_thread(start) == "[]\n"
