"""An emulated machine with NUMA nodes of any shape, seeing this machine's files; it checks nothing."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.numa.kernel import Kit

__all__ = ["Machine", "Node", "Run", "run"]

ROOT = Path(__file__).resolve().parent.parent.parent
_PASSED_ON = ("PATH", "HOME", "PYTHONPATH", "LANG")


@dataclass(frozen=True)
class Node:
    """One NUMA node of an emulated machine; no CPUs makes it memory-only, no memory makes it memoryless."""

    cpus: int
    mebibytes: int


@dataclass(frozen=True)
class Machine:
    """What to emulate.

    Attributes:
        nodes: those with CPUs first, all of these with equally many.
        distances: one row a node; 10 from a node to itself.
    """

    nodes: tuple[Node, ...]
    distances: tuple[tuple[int, ...], ...]

    @property
    def cpus(self) -> int:
        """How many there are in all."""
        return sum(node.cpus for node in self.nodes)

    def arguments(self) -> list[str]:
        """The machine in QEMU's words."""
        sockets = sum(node.cpus > 0 for node in self.nodes)
        words = ["-m", f"{sum(node.mebibytes for node in self.nodes)}M"]
        words += ["-smp", f"{self.cpus},sockets={sockets},cores={self.cpus // sockets},threads=1"]
        first = 0
        for number, node in enumerate(self.nodes):
            described = f"node,nodeid={number}"
            if node.cpus:
                described += f",cpus={first}-{first + node.cpus - 1}"
                first += node.cpus
            if node.mebibytes:
                words += ["-object", f"memory-backend-ram,id=memory{number},size={node.mebibytes}M"]
                described += f",memdev=memory{number}"
            words += ["-numa", described]
        for source, row in enumerate(self.distances):
            for target, distance in enumerate(row):
                if source != target:
                    words += ["-numa", f"dist,src={source},dst={target},val={distance}"]
        return words


@dataclass(frozen=True)
class Run:
    """How a run went.

    Attributes:
        seen: what the module in the guest wrote, by scenario.
        seconds: from switching on to off.
        output: what it printed, and the logs of its servers.
    """

    seen: Mapping[str, Any]
    seconds: float
    output: str


def run(kit: Kit, machine: Machine, *scenarios: str, timeout_s: float = 900) -> Run:
    """Boot, run ``tests.numa.inside SCENARIO...`` in this Python and this folder, switch off.

    Raises:
        AssertionError: the guest did not get through; the text is all that it said.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cpuserve-numa-") as scratch:
        folder = Path(scratch)
        lab = folder / "lab"
        lab.mkdir()
        variables = [f"{name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
        variables.append("CPUSERVE_TEST_START_TIMEOUT_S=240")
        module = [sys.executable, "-m", "tests.numa.inside", *scenarios]
        (lab / "command").write_text(
            f"cd {shlex.quote(str(ROOT))}\nexec env -i {shlex.join([*variables, *module])}\n"
        )
        (folder / "initramfs").write_bytes(_initramfs(kit))
        _boot(kit, machine, folder, timeout_s)
        output = _texts(lab / "output", *sorted(lab.glob("*.log")))
        seen, status = lab / "seen.json", lab / "status"
        if not seen.is_file() or not status.is_file() or status.read_text().strip() != "0":
            raise AssertionError(f"the guest did not get through:\n{_texts(folder / 'console')}\n{output}")
        return Run(json.loads(seen.read_text()), time.monotonic() - began, output)


def _boot(kit: Kit, machine: Machine, folder: Path, timeout_s: float) -> None:
    shared = "security_model=none,multidevs=remap"
    kernel_words = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable random.trust_cpu=on"
    with (folder / "console").open("wb") as console:
        qemu = subprocess.Popen(
            [
                str(kit.emulator),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"),
                *("-accel", "tcg,thread=multi", "-cpu", "max", *machine.arguments()),
                *("-kernel", str(kit.kernel), "-initrd", str(folder / "initramfs"), "-append", kernel_words),
                *("-virtfs", f"local,path=/,mount_tag=host,readonly=on,{shared}"),
                *("-virtfs", f"local,path={folder / 'lab'},mount_tag=lab,{shared}"),
                *("-serial", "stdio"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
        try:
            qemu.wait(timeout_s)
        except subprocess.TimeoutExpired:
            said = _texts(folder / "console", *sorted((folder / "lab").iterdir()))
            raise AssertionError(f"the guest was not done after {timeout_s} s:\n{said}") from None
        finally:
            qemu.kill()
            qemu.wait()


def _texts(*files: Path) -> str:
    return "\n".join(
        f"--- {file.name}\n{file.read_text(errors='replace')}" for file in files if file.is_file()
    )


def _initramfs(kit: Kit) -> bytes:
    """The guest's first file system, a cpio archive in the kernel's "newc" form."""
    script = (Path(__file__).parent / "init.sh").read_bytes()
    folders = ("bin", "dev", "host", "modules", "proc", "root", "scratch", "sys")
    entries: dict[str, tuple[int, bytes]] = dict.fromkeys(folders, (stat.S_IFDIR | 0o755, b""))
    entries |= {"init": (stat.S_IFREG | 0o755, script)}
    entries |= {"bin/busybox": (stat.S_IFREG | 0o755, kit.busybox.read_bytes())}
    entries |= {f"modules/{file.name}": (stat.S_IFREG | 0o644, file.read_bytes()) for file in kit.modules}
    archive = bytearray()
    for number, (name, (mode, data)) in enumerate([*entries.items(), ("TRAILER!!!", (0, b""))], start=1):
        path = name.encode() + b"\0"
        #         inode   mode  u  g  links time  size     device and special  name       check
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        archive += bytes(-len(archive) % 4)
        archive += data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
