"""A virtual environment with chosen packages of the one that runs the tests, and no others."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

__all__ = ["add_packages", "locked", "make_environment", "needed"]


def needed(*extras: str) -> set[str]:
    """The packages that cpuserve with these extras needs, as pyproject.toml says, and what those need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(one for extra in extras for one in project["optional-dependencies"][extra]),
    ]
    found: set[str] = set()
    waiting = [Requirement(text) for text in asked]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            further = Requirement(text)
            if any(
                further.marker is None or further.marker.evaluate({"extra": extra})
                for extra in {*one.extras, ""}
            ):
                waiting.append(further)
    return found


def locked(file: Path) -> set[str]:
    """The packages of a lock file whose condition holds here."""
    lines = re.findall(r"^([a-z0-9][^\\\n]*?) *\\?$", file.read_text(), re.MULTILINE)
    asked = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name) for one in asked if one.marker is None or one.marker.evaluate()}


def make_environment(folder: Path, packages: Iterable[str]) -> Path:
    """Makes an environment with these packages, and returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    add_packages(python, packages)
    return python


def add_packages(python: Path, packages: Iterable[str]) -> None:
    """Links the files of packages of this environment into another."""
    (site,) = (python.parent.parent / "lib").glob("python*/site-packages")
    for name in packages:
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            _link(Path(str(distribution.locate_file(file))), PurePosixPath(file), site)


def _link(source: Path, file: PurePosixPath, site: Path) -> None:
    if "bin" in file.parts and file.parts[0] == "..":
        place, part = site.parents[2] / "bin" / file.name, source
    elif ".." in file.parts or "__pycache__" in file.parts:
        return
    else:  # a package whole, or each part of one that several distributions share
        base, depth = Path(str(source).removesuffix(str(file))), 1
        while depth < len(file.parts) and not (base.joinpath(*file.parts[:depth]) / "__init__.py").exists():
            depth += 1
        part, place = base.joinpath(*file.parts[:depth]), site.joinpath(*file.parts[:depth])
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(part.resolve())
