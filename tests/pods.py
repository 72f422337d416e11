"""Starts a command as Kubernetes does in a pod: a user without name and rights, over a read-only root."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers import Server, free_port

__all__ = ["pod", "why_no_pod"]

# Python and its packages are bound below /mnt: another user may not enter the directories they lie in
_BASE = Path(sys.base_prefix)
_PACKAGES = [path for path in sys.path if Path(path).is_dir() and not Path(path).is_relative_to(_BASE)]
_PLACES = {"/mnt/python": str(_BASE), **{f"/mnt/packages{at}": path for at, path in enumerate(_PACKAGES)}}
_PYTHON = f"/mnt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
_BIND = " && ".join(
    f"mkdir {place} && mount --bind {shlex.quote(path)} {place}" for place, path in _PLACES.items()
)


def why_no_pod(uid: int) -> str:
    """Why no command can run as another user in a file system of its own; empty where it can."""
    if os.getuid():
        return "needs root"
    child = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import cpuserve.cli'], check=True)"
    )
    probe = _words(uid, "true", [_PYTHON, "-c", child])
    run = subprocess.run(probe, capture_output=True, text=True, env=_environment({}), check=False)
    return f"a process of user {uid} cannot be started: {run.stderr[-300:]}" if run.returncode else ""


def _words(uid: int, prepare: str, command: Sequence[str]) -> list[str]:
    mounts = f"mount -t tmpfs none /mnt && {_BIND} && mount -o remount,ro,bind /"
    # Kubernetes gives a user that is not in /etc/passwd the group 0
    drop = (
        f"setpriv --reuid {uid} --regid 0 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
    )
    return ["unshare", "--mount", "sh", "-ec", f"{mounts} && {prepare} && exec {drop} {shlex.join(command)}"]


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    paths = os.pathsep.join(place for place in _PLACES if place != "/mnt/python")
    own = {"PYTHONPATH": paths, "LD_LIBRARY_PATH": "/mnt/python/lib", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"PATH": os.environ["PATH"], **own, **more}


@contextmanager
def pod(log: Path, uid: int, prepare: str, *arguments: str, **environment: str) -> Iterator[Server]:
    """Run ``cpuserve ARGUMENTS``; ``{rest}`` and ``{grpc}`` in them become free ports.

    Args:
        log: where its output goes.
        uid: the user.
        prepare: shell commands, run as root, that fill ``/mnt``; what they bind there stays readable.
        arguments: of the command, as a runtime of KServe gives them.
        environment: all that the command gets beside the paths of programs and packages.
    """
    ports = {"rest": free_port(), "grpc": free_port()}
    command = [_PYTHON, "-m", "cpuserve", *(word.format(**ports) for word in arguments)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            _words(uid, prepare, command),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(environment),
        )
    server = Server(process, ports["rest"], log)
    server.grpc_port = ports["grpc"]
    try:
        yield server
    finally:
        server.stop()
