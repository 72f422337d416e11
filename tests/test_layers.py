"""Who may import whom, for every package; class names are unique; nobody imports the command line."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASE = ("errors", "settings", "sharedmem", "machine", "models", "serving")  # each may import those before it
ONLINE = (*BASE, "protocols")
MEASURED = (*BASE, "measuring", "reports")
MAY_IMPORT = {
    **{name: BASE[:place] for place, name in enumerate(BASE)},
    "protocols": BASE,
    "http": ONLINE,
    "grpc": ONLINE,
    "server": (*ONLINE, "http", "grpc"),
    "reports": ("errors",),
    "authoring": BASE,
    "measuring": BASE,
    "tune": MEASURED,
    "profiling": MEASURED,
    "bench": (*MEASURED, "authoring"),
    "video": (*MEASURED, "authoring"),
    "cluster": (*MEASURED, "authoring"),
    "client": (),
    "public": BASE,
    "__init__": ("client", "public"),
    "__main__": ("cli",),
}
MAY_IMPORT["cli"] = tuple(room for room in MAY_IMPORT if room != "__main__")


def imported(file: Path) -> Iterator[str]:
    """The full names of the modules of this project that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports hide where a module is"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def violations(root: Path) -> list[str]:
    """Every import below ``root``/cpuserve that `MAY_IMPORT` has no word for."""
    package, found = root / "cpuserve", []
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        for name in imported(file):
            top, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if top in ("tests", "benchmarks"):
                found.append(f"{file.relative_to(root)} imports {name}")
            known = top == "cpuserve" and other in MAY_IMPORT
            if known and other != room and other not in MAY_IMPORT[room]:
                found.append(f"{file.relative_to(root)} imports {name}")
    return found


def test_nobody_imports_what_stands_above():
    assert violations(ROOT) == []


def test_every_room_of_the_package_has_its_rule():
    rooms = {
        path.name.removesuffix(".py")
        for path in (ROOT / "cpuserve").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("serving/pool.py", "import cpuserve.measuring.local_server"),
        ("serving/pool.py", "from cpuserve import http"),
        ("serving/pool.py", "def load():\n    from cpuserve.authoring.convert import convert"),
        ("machine/budget.py", "from cpuserve.models.card import Card"),
        ("protocols/v2.py", "from cpuserve.http.connection import Connection"),
        ("tune/search.py", "from cpuserve.bench.networks import Plan"),
        ("bench/networks.py", "from cpuserve.tune.search import Search"),
        ("measuring/window.py", "from cpuserve.bench import networks"),
        ("authoring/convert.py", "import cpuserve.server.arbiter"),
        ("profiling/page.py", "from cpuserve.authoring.samples import samples"),
        ("reports/page.py", "from cpuserve.tune.report import Report"),
        ("tune/search.py", "from benchmarks.rivals import rivals"),
        ("server/arbiter.py", "import cpuserve.cli"),
    ],
)
def test_an_import_in_the_wrong_place_is_found(tmp_path, file, line):
    place = tmp_path / "cpuserve" / file
    place.parent.mkdir(parents=True)
    place.write_text(line + "\n")
    assert len(violations(tmp_path)) == 1


def test_class_names_are_unique():
    places = defaultdict(list)
    for file in sorted((ROOT / "cpuserve").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
