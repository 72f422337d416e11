"""Who may import whom, for every package; class names are unique; nobody imports the command line."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
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
    "zmq": ONLINE,
    "server": (*ONLINE, "http", "grpc", "zmq"),
    "reports": ("errors",),
    "authoring": BASE,
    "measuring": BASE,
    "tune": MEASURED,
    "profiling": MEASURED,
    "bench": (*MEASURED, "authoring", "grpc"),  # what clients send
    "video": (*MEASURED, "authoring", "grpc", "protocols", "endpoints"),  # what replicas are asked with
    "cluster": (*MEASURED, "authoring", "endpoints"),
    "batch": (*BASE, "video", "cluster"),  # frames are decoded and answered as there
    "client": ("errors", "serving", "endpoints"),
    "endpoints": ("errors",),
    "local_model": BASE,
    "__init__": ("client", "local_model"),
    "__main__": ("cli",),
}
MAY_IMPORT["cli"] = tuple(room for room in MAY_IMPORT if room != "__main__")


MODULE = re.compile(r"(?:cpuserve|benchmarks|tests)\.\w+[.:][\w.:]*")
COMMAND = re.compile(r"\S* ?-m ((?:cpuserve|benchmarks|tests)\.[\w.]+)(?: .*)?")


def imported(file: Path) -> Iterator[str]:
    """The full names of the modules of this project that a file imports, wherever in it.

    A string that names a module counts: it is there to be imported or to be run by another Python.
    """
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            start = "." * node.level
            yield from (f"{start}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # two words alone, such as cpuserve.server, are the name of a logger or a key
            if MODULE.fullmatch(node.value):
                yield node.value
            elif command := COMMAND.fullmatch(node.value):
                yield command[1]
        elif isinstance(node, (ast.List, ast.Tuple, ast.Call)):
            words = node.args if isinstance(node, ast.Call) else node.elts
            texts = [word.value if isinstance(word, ast.Constant) else None for word in words]
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                yield str(texts[0])
            yield from (str(name) for flag, name in pairwise(texts) if flag == "-m")


def violations(root: Path) -> list[str]:
    """Every import below ``root``/cpuserve that `MAY_IMPORT` has no word for, and every relative one."""
    package, found = root / "cpuserve", []
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package)
        room = place.parts[0].removesuffix(".py")
        allowed = {room, *MAY_IMPORT.get(room, ()), "__version__", ""}
        for name in dict.fromkeys(imported(file)):
            top, _, rest = name.partition(".")
            other = re.split("[.:]", rest)[0]
            outside = top in ("tests", "benchmarks", "")  # nothing stands before the dot of a relative import
            if outside or (top == "cpuserve" and other not in allowed):
                found.append(f"cpuserve/{place} imports {name}")
    return found


def test_packages_import_only_those_below_them():
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
        ("profiling/page.py", "from cpuserve.authoring.labelled_pictures import samples"),
        ("reports/page.py", "from cpuserve.tune.report import Report"),
        ("tune/search.py", "from benchmarks.rivals import rivals"),
        ("server/arbiter.py", "import cpuserve.cli"),
        ("machine/seats.py", "from cpuserve import load"),
        ("serving/pool.py", "from .decode import Decoder"),
        ("serving/pool.py", "from ..http import worker"),
        ("serving/pool.py", "from . import decode"),
        ("serving/pool.py", "import importlib\nimportlib.import_module('cpuserve.cli')"),
        ("http/app.py", "importlib.import_module('cpuserve.server.arbiter')"),
        ("sharedmem/block.py", "run([sys.executable, '-m', 'cpuserve.machine.budget'])"),
        ("bench/networks.py", "command = die_with_parent(sys.executable, '-m', 'cpuserve.cli')"),
        ("sharedmem/block.py", "run('python -m cpuserve.machine 1')"),
        ("models/card.py", "LAZY = {'Pool': 'cpuserve.serving.pool:Pool'}"),
        ("models/card.py", "def load(name):\n    return import_module(f'cpuserve.authoring.zoo.{name}')"),
        ("tune/search.py", "run(['python', '-m', 'benchmarks.rivals.all'])"),
        ("__init__.py", "from cpuserve.serving.loader import load_pipeline"),
    ],
)
def test_an_import_in_the_wrong_place_is_found(tmp_path, file, line):
    place = tmp_path / "cpuserve" / file
    place.parent.mkdir(parents=True)
    place.write_text(line + "\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("serving/pool.py", "from cpuserve.serving.decode import Decoder"),
        ("serving/pool.py", "import numpy\nfrom cpuserve.models.card import Card"),
        ("serving/pool.py", "log = logging.getLogger('cpuserve.http')"),
        ("machine/seats.py", "from cpuserve import __version__"),
        ("measuring/local_server.py", "run([sys.executable, '-m', 'cpuserve', 'serve'])"),
        ("server/gunicorn_server.py", "options = {'worker_class': 'cpuserve.http.worker.SeatWorker'}"),
    ],
)
def test_an_import_in_its_place_is_allowed(tmp_path, file, line):
    place = tmp_path / "cpuserve" / file
    place.parent.mkdir(parents=True)
    place.write_text(line + "\n")
    assert violations(tmp_path) == []


def test_class_names_are_unique():
    places = defaultdict(list)
    for file in sorted((ROOT / "cpuserve").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
