"""The image and containers of it, run without a container engine by engineless.sh."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers import Server, free_port

IMAGE = "localhost/cpuserve:test"
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108
MEMORY_POLICY = ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node")

_SCRIPT = Path(__file__).with_name("engineless.sh")
_SEAT = re.compile(r"cpuserve\.server: seat (\d+): CPUs (\S+), node (\S+),")
_READY = re.compile(r"\[(\d+)\] cpuserve\.server: worker in seat (\d+) .* ready at")
_TROUBLE = re.compile(r" (WARNING|ERROR|CRITICAL) |Traceback")

_LOOK = """
import collections, json, os, pathlib, shutil
processes = {}
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if int(folder.name) == os.getpid():
        continue
    status = dict(line.split(":\\t", 1) for line in (folder / "status").read_text().splitlines())
    tasks = [(task / "status").read_text() for task in (folder / "task").iterdir()]
    masks = [text.split("Cpus_allowed_list:\\t")[1].splitlines()[0] for text in tasks]
    policies = [line.split()[1] for line in (folder / "numa_maps").read_text().splitlines()]
    processes[folder.name] = {
        "command": (folder / "cmdline").read_text().replace("\\0", " ").strip(),
        "masks": masks, "policies": collections.Counter(policies), "status": status,
    }
places = ("/", "/models", "/opt/cpuserve", "/tmp", "/dev/shm")
writable = [place for place in places if os.access(place, os.W_OK)]
tools = [tool for tool in ("cc", "gcc", "g++", "clang", "make", "ld") if shutil.which(tool)]
print(json.dumps({"processes": processes, "writable": writable, "compilers": tools}))
"""


def engineless(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one verb of the script and show what it said when it fails."""
    done = subprocess.run([str(_SCRIPT), *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(
            f"engineless.sh {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


class Container(Server):
    """A server in a container; `stop` stops it as an engine does."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, name: str) -> None:
        super().__init__(process, port, log)
        self.name = name

    def planned(self) -> dict[int, dict[str, str]]:
        """Seat number to CPUs and node, as the log tells them."""
        return {int(seat): {"cpus": cpus, "node": node} for seat, cpus, node in _SEAT.findall(self.text())}

    def worker_pids(self) -> dict[int, str]:
        """Seat number to the process id, inside the container, of the worker that said it is ready there."""
        return {int(seat): pid for pid, seat in _READY.findall(self.text())}

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the server's own user."""
        return engineless("podman", "exec", self.name, *command, check=False)

    def look(self) -> dict[str, Any]:
        """What the kernel says of every process inside, seen from inside."""
        done = self.execute("python", "-c", _LOOK)
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    def troubles(self) -> list[str]:
        """The log's lines above INFO."""
        return [
            line
            for line in self.text().splitlines()
            if re.search(r" (WARNING|ERROR|CRITICAL) |Traceback", line)
        ]

    def stop(self) -> int:
        if self.process.poll() is None:
            engineless("podman", "stop", "--time", "40", self.name)
        return self.process.wait(timeout=60)


@contextmanager
def container(
    log: Path, *options: str, cpus: str | None = None, words: Sequence[str] = (), port: int | None = None
) -> Iterator[Container]:
    """Start the image with ``options`` and wait until the workers of all seats are ready.

    Args:
        log: what the container writes.
        options: of podman run.
        cpus: the CPUs it may use, as a cpulist; its affinity mask is what a cpuset looks like from inside.
        words: what stands behind the image, in place of its command.
        port: where it answers; without it a free one, told to it by the environment.
    """
    told: tuple[str, ...] = ()
    if port is None:
        port = free_port()
        told = ("--env", f"CPUSERVE_PORT={port}")
    name = f"cpuserve-test-{port}"
    command: Sequence[str] = [
        *(("taskset", "--cpu-list", cpus) if cpus else ()),
        *(str(_SCRIPT), "run", "--name", name, *HARDENED, *told, *options, IMAGE, *words),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    server = Container(process, port, log, name)
    try:
        server.wait_until(
            lambda: server.planned() and server.worker_pids().keys() == server.planned().keys(),
            "ready in every seat",
        )
        yield server
    finally:
        if process.poll() is None:
            engineless("podman", "rm", "--force", "--time", "5", name, check=False)
            process.wait(timeout=30)


def docker_profile(folder: Path) -> Path:
    """The seccomp profile that podman has, with the one rule in which Docker's differs: memory policies.

    Docker allows them with CAP_SYS_NICE and answers EPERM without; podman allows them to everybody.
    """
    found = engineless("podman", "info", "--format", "{{.Host.Security.SECCOMPProfilePath}}").stdout.strip()
    profile = json.loads(Path(found).read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in MEMORY_POLICY]
    capability = {"caps": ["CAP_SYS_NICE"]}
    profile["syscalls"] += [
        {"names": [*MEMORY_POLICY], "action": "SCMP_ACT_ALLOW", "includes": capability},
        {"names": [*MEMORY_POLICY], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": capability},
    ]
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    file = folder / "seccomp.json"
    file.write_text(json.dumps(profile))
    return file
