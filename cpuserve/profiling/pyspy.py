"""Takes Python stacks of another process with py-spy, and explains why where that is forbidden."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from cpuserve.errors import pip_install
from cpuserve.machine.files import read_text

__all__ = ["PySpy", "folded_of", "hindrance"]

_PTRACE = 1 << 19  # CAP_SYS_PTRACE, of <linux/capability.h>
_START_S = 10.0
_STOP_S = 30.0
_CAPABILITY = (
    "docker run --cap-add SYS_PTRACE; in a compose file, cap_add: [SYS_PTRACE]; in Kubernetes, "
    "securityContext: {capabilities: {add: [SYS_PTRACE]}}; a container gives it to root: docker exec -u 0"
)


class PySpy:
    """``py-spy record`` on a process and all below it.

    Args:
        pid: the process.
        rate: samples a second.
        native: frames of C libraries too, which costs more.
    """

    def __init__(self, pid: int, rate: int, *, native: bool = False) -> None:
        self._pid = pid
        self._command = [_program(), "record", "--pid", str(pid), "--subprocesses", "--threads"]
        self._command += ["--rate", str(rate), "--format", "raw"] + (["--native"] if native else [])
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Attach; returns "" or a sentence on why that is impossible."""
        self._folder = tempfile.TemporaryDirectory(prefix="cpuserve-profile-")
        command = [*self._command, "--output", str(Path(self._folder.name) / "raw")]
        try:
            with (Path(self._folder.name) / "said").open("wb") as said:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
                )
        except OSError as error:
            self._folder.cleanup()
            return f"py-spy cannot be started ({error.strerror}): {pip_install('py-spy')}"
        deadline = time.monotonic() + _START_S
        while self._process.poll() is None:
            if "Sampling process" in self._log() or time.monotonic() > deadline:
                return ""
            time.sleep(0.05)
        why = self._said()
        self._folder.cleanup()
        return why

    def stop(self) -> tuple[dict[str, int], str]:
        """Detach; returns the number of samples by stack, and "" or why there are none."""
        if self._process is None or self._folder is None:
            return {}, ""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        raw = Path(self._folder.name) / "raw"
        found = folded_of(raw.read_text(encoding="utf-8", errors="replace")) if raw.exists() else {}
        why = "" if found else self._said()
        self._folder.cleanup()
        return found, why

    def cpu_s(self) -> float:
        """CPU seconds that py-spy has used until now."""
        if self._process is None:
            return 0.0
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def _said(self) -> str:
        """Why it failed: what forbids it, and the last line it printed."""
        lines = [line.strip() for line in self._log().splitlines() if line.strip()]
        told = f"it said: {lines[-1][:300]}" if lines else "it said nothing"
        why = hindrance(self._pid, tried=True)
        return f"{why} ({told})" if why else f"py-spy took no stacks; {told}"

    def _log(self) -> str:
        folder = "" if self._folder is None else self._folder.name
        return (Path(folder) / "said").read_text(encoding="utf-8", errors="replace")


def folded_of(raw: str) -> dict[str, int]:
    """The stacks of py-spy's raw format: ``frame;frame;... count``, one a line."""
    found: dict[str, int] = {}
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if count.isdigit():
            found[stack] = found.get(stack, 0) + int(count)
    return found


def hindrance(pid: int, root: Path = Path("/"), *, tried: bool = False) -> str:
    """What forbids this process to trace another one, and how to allow it; "" where nothing is known to.

    Args:
        pid: the other process.
        root: where /proc is.
        tried: tracing has failed already: name what may have forbidden it.
    """
    status, own = read_text(root / f"proc/{pid}/status"), read_text(root / "proc/self/status")
    if status is None or own is None:
        return f"process {pid} has ended, or is hidden from this user"
    may = bool(_number(own, "CapEff", 16) & _PTRACE)
    theirs, mine = _number(status, "Uid", 10), _number(own, "Uid", 10)
    if theirs != mine and not may:
        return (
            f"process {pid} is user {theirs}'s and this is user {mine}: run cpuserve profile as that user "
            f"(sudo -u '#{theirs}' ..., docker exec -u {theirs} ...), or give it SYS_PTRACE ({_CAPABILITY})"
        )
    scope = (read_text(root / "proc/sys/kernel/yama/ptrace_scope") or "0").strip()
    if scope == "3":
        return (
            "kernel.yama.ptrace_scope is 3: nobody may trace until the machine starts anew with another value"
        )
    if scope in ("1", "2") and not may:
        return (
            f"kernel.yama.ptrace_scope is {scope} and SYS_PTRACE is missing: {_CAPABILITY}; "
            "or on the host: sysctl kernel.yama.ptrace_scope=0"
        )
    if tried and _number(own, "Seccomp", 10) == 2:
        return f"a seccomp filter forbids it, as container engines set one without SYS_PTRACE: {_CAPABILITY}"
    return ""


def _number(status: str, name: str, base: int) -> int:
    found = re.search(rf"^{name}:\s*([0-9a-f]+)", status, re.MULTILINE)
    return int(found[1], base) if found else 0


def _program() -> str:
    """py-spy beside this Python, else on the path."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy") or "py-spy"
