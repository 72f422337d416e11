"""A server started for a benchmark and stopped after it; it measures nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.bench.reload import free_port, wait_ready
from cpuserve.machine.leash import leashed

__all__ = ["Local", "serving"]


@dataclass(frozen=True)
class Local:
    """A server that runs here.

    Attributes:
        url: where.
        pid: of its arbiter.
        log: what it says.
    """

    url: str
    pid: int
    log: Path


@contextmanager
def serving(
    model: str, flags: Mapping[str, Any], config: Path | None, environ: Mapping[str, str] | None = None
) -> Iterator[Local]:
    """Serve one model on a free port as long as the context lasts, by ``cpuserve serve``.

    Args:
        model: its name in the repository; empty for all of it.
        flags: settings by name; those that are None are left to the environment and the defaults, but for
            ``profile``, which is off.
        config: a settings file.
        environ: its environment; None is that of this process.

    Raises:
        CpuserveError: the server does not start; the message has its last words.
    """
    port = free_port()
    words = ["serve", "--port", str(port), "--model-name", model]
    words += [] if config is None else ["--config", str(config)]
    # what somebody keeps in tuning/ decides nothing here unless it is asked for
    for name, value in {**flags, "profile": flags.get("profile") or "off"}.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                leashed(sys.executable, "-m", "cpuserve", *words),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environ is None else dict(environ),
            )
        try:
            wait_ready(port, server, log)
            yield Local(f"http://127.0.0.1:{port}", server.pid, log)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
