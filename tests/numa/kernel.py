"""What an emulated machine boots: a distribution's generic kernel with the modules it needs, fetched once."""

from __future__ import annotations

import lzma
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Kit", "Unavailable", "prepare"]

_PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static"}
_KERNEL = "linux-image-amd64"  # the generic one: kernels for clouds leave 9p out
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")


class Unavailable(Exception):
    """No machine can be emulated here; the text says what is missing."""


@dataclass(frozen=True)
class Kit:
    """What it takes to boot.

    Attributes:
        emulator: the QEMU program.
        busybox: the statically linked one.
        kernel: the kernel image.
        modules: kernel modules, in the order in which they can be loaded.
        release: the kernel's release.
    """

    emulator: Path
    busybox: Path
    kernel: Path
    modules: tuple[Path, ...]
    release: str


def prepare(cache: Path | None = None) -> Kit:
    """Find what is needed; install and fetch what is missing.

    Args:
        cache: where the kernel is kept; the user's cache directory unless given.

    Raises:
        Unavailable: something is missing and cannot be had.
    """
    if platform.machine() != "x86_64":
        raise Unavailable(
            f"the emulated machine runs this one's programs, and is x86_64, not {platform.machine()}"
        )
    if cache is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cpuserve" / "numa"
    tools = _tools()
    if not (cache / "release").is_file():  # written last
        _fetch(cache)
    return Kit(
        emulator=tools["qemu-system-x86_64"],
        busybox=tools["busybox"],
        kernel=cache / "kernel",
        modules=tuple(sorted(cache.glob("*.ko"))),
        release=(cache / "release").read_text(),
    )


def _tools() -> Mapping[str, Path]:
    missing = [package for program, package in _PACKAGES.items() if _find(program) is None]
    if missing:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Unavailable(f"install {' and '.join(missing)} (as root: {' '.join(command)})")
        _run(["apt-get", "update"])
        _run(command)
    found = {program: path for program in _PACKAGES if (path := _find(program))}
    if len(found) < len(_PACKAGES):
        raise Unavailable(
            f"{', '.join(_PACKAGES.values())} are installed, but not all of their programs are there"
        )
    return found


def _find(program: str) -> Path | None:
    path = shutil.which(program)
    if path is None:
        return None
    # busybox stands alone in the guest's first file system, so one that needs shared libraries will not do
    if program == "busybox" and b"/ld-linux" in Path(path).read_bytes()[:4096]:
        return None
    return Path(path)


def _fetch(cache: Path) -> None:
    """Download the kernel's package and keep the few megabytes of it that matter."""
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"the kernel comes from a Debian package, and there is no {program} here")
    if os.geteuid() == 0:
        _run(["apt-get", "update"])
    package = re.search(r"Depends: (linux-image-\S+)", _run(["apt-cache", "depends", _KERNEL]))
    if package is None:
        raise Unavailable(f"apt knows no package {_KERNEL} (apt-get update, as root, may help)")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        _run(["apt-get", "download", package[1]], folder)
        (archive,) = folder.glob("*.deb")
        _run(["dpkg-deb", "--extract", str(archive), str(folder / "root")])
        (image,) = folder.glob("root/boot/vmlinuz-*")
        modules = _loadable(folder / "root")
        for number, (name, code) in enumerate(modules.items()):
            (cache / f"{number:02}-{name}.ko").write_bytes(code)
        shutil.copyfile(image, cache / "kernel")
    (cache / "release").write_text(image.name.removeprefix("vmlinuz-"))


def _loadable(root: Path) -> dict[str, bytes]:
    """The modules and all that they depend on, each after what it depends on."""
    files = {file.name.partition(".")[0].replace("-", "_"): file for file in root.rglob("*.ko*")}
    if "9p" not in files:
        raise Unavailable(f"the kernel of {_KERNEL} has no 9p file system")
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name not in files or name in order:  # what has no file is part of the kernel itself
            return
        code = files[name].read_bytes()
        if files[name].suffix == ".xz":
            code = lzma.decompress(code)
        needs = re.search(rb"\0depends=([^\0]*)", code)
        for other in (needs[1].decode() if needs else "").split(","):
            add(other.replace("-", "_"))
        order[name] = code

    for name in _MODULES:
        add(name)
    return order


def _run(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout
