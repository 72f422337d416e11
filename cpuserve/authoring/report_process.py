"""Computes a part of a report in a child process, so that a crash, a hang or want of memory ends only it.

Run as ``python -m cpuserve.authoring.report_process`` it is that child: stdin has what to call.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cpuserve.authoring.graph_import import reason
from cpuserve.machine.process_controls import die_with_parent

__all__ = ["Facts", "compute_in_child", "main"]

Facts = Iterator[tuple[str, Any]]
"""Names and values for a report; the values can be written as JSON."""

_REASON = "reason"
_FIRST_TO_KILL = "1000"  # of oom_score_adj: the kernel then kills the child and not the command


def compute_in_child(
    compute: Callable[..., Facts], *given: Any, limit_s: float, option: str
) -> tuple[dict[str, Any], str]:
    """Call a function in a child process and collect what it yields.

    Args:
        compute: a function of a module. What it yields before it fails is kept.
        given: its arguments, which can be pickled.
        limit_s: seconds until the child is killed.
        option: that sets the limit, for the message.

    Returns:
        The facts by name, and why there are no more: empty if the function came to its end.
    """
    order = pickle.dumps((compute.__module__, compute.__name__, given))
    child = subprocess.Popen(
        die_with_parent(sys.executable, "-m", "cpuserve.authoring.report_process"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the command
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
    )
    late = ""
    with child:
        try:
            output, said = child.communicate(order, timeout=limit_s)
        except subprocess.TimeoutExpired:
            late = f"it was not done within {limit_s:g} s ({option})"
            child.kill()
            output, said = child.communicate()
        except BaseException:
            child.kill()
            raise
    facts = dict(json.loads(line) for line in output.decode().splitlines() if line.endswith("]"))
    reason = facts.pop(_REASON, "")
    return facts, late or reason or _ended(child.returncode, said.decode(errors="replace"))


def _ended(status: int, said: str) -> str:
    """How a child ended that gave no reason itself; empty for a good end."""
    if not status:
        return ""
    words = said.strip().splitlines()
    last = f": {words[-1][:200]}" if words else ""
    if status > 0:
        return f"its process ended with {status}{last}"
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL:
        return f"its process was killed ({name}), most likely for want of memory"
    return f"its process crashed ({name}){last}"


def main() -> None:
    """Call what stdin says; a line of JSON a fact to standard output."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_KILL, encoding="ascii")
    # libraries print to standard output too: they get standard error, and the facts a pipe of their own
    facts = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module, name, given = pickle.load(sys.stdin.buffer)  # noqa: S301 - the parent is this program
    try:
        for fact in getattr(importlib.import_module(module), name)(*given):
            facts.write(json.dumps(fact) + "\n")
            facts.flush()
    except Exception as error:  # noqa: BLE001 - models and frameworks raise what they like
        said = reason(error) if str(error).strip() else type(error).__name__
        facts.write(json.dumps((_REASON, said)) + "\n")
    facts.flush()
    os._exit(0)  # a framework that crashes while it is unloaded has given its facts


if __name__ == "__main__":
    main()
