"""Pages are fresh, complete and linked; modules and functions are short."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest.mock import Mock

import pytest

from cpuserve.http.app import routes
from cpuserve.serving.pool import Pool

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cpuserve"


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    subprocess.run(
        [sys.executable, "docs/generate.py", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    return folder


@pytest.mark.parametrize("name", ["settings.md", "commands.md", "seven.png"])
def test_generated_files_are_fresh(generated, name):
    assert (ROOT / "docs" / name).read_bytes() == (generated / name).read_bytes(), "run `make docs`"


def test_the_charts_values_name_the_settings(generated):
    committed = ROOT / "deploy" / "helm" / "cpuserve" / "values.schema.json"
    assert committed.read_bytes() == (generated / "values.schema.json").read_bytes(), "run `make docs`"


def test_openapi_json_is_the_yaml(generated):
    committed = PACKAGE / "protocols" / "page" / "openapi.json"
    assert committed.read_bytes() == (generated / "openapi.json").read_bytes(), "run `make docs`"


@pytest.mark.parametrize("folder", ["cpuserve", "benchmarks"])
def test_modules_and_functions_are_short_and_modules_say_what_they_do(folder):
    for file in (ROOT / folder).rglob("*.py"):
        text = file.read_text()
        tree = ast.parse(text)
        assert len(text.splitlines()) <= 400, file
        docstring = ast.get_docstring(tree)
        assert docstring, file
        # what a module does not do is no news to whoever looks for what does it
        assert not re.search(r"; (it|they|knows|judges|changes|decides|does) ", docstring.splitlines()[0]), (
            file
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < 80, f"{file}: {node.name}"


@pytest.mark.parametrize(
    "code",
    [
        "import cpuserve.cli",
        "import cpuserve.server.gunicorn_server",
        "from cpuserve.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from cpuserve.cli import main\ntry: main(['serve', '--help'])\nexcept SystemExit: pass",
        "from cpuserve.cli import main\ntry: main(['pull', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_neither_help_nor_the_arbiter_loads_what_only_workers_need(code):
    heavy = "{'openvino', 'numpy', 'cv2', 'flask'}"
    check = f"{code}\nimport sys; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", check], check=True, stdout=subprocess.DEVNULL)


def test_every_command_has_an_example_in_its_help():
    page = (ROOT / "docs" / "commands.md").read_text()
    for part in page.split("\n## ")[1:]:
        assert "Example:" in part, part.splitlines()[0]


PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("ir_models/*/*.md")]
    if ".venv" not in path.parts
)


def anchors(page):
    """What `#...` in a link to a page may be: its headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_on_a_page_are_there(page):
    named = re.findall(
        r"`((?:cpuserve|tests|benchmarks|docker|docs|requirements)/[\w./-]+\.\w+)`", page.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_room_is_in_the_guide():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert {room for room in rooms if f"`cpuserve/{room}`" not in page} == set()


def test_the_glossary_has_the_words_of_the_project_once_each():
    rows = re.findall(
        r"^\| \*\*(.+?)\*\* \| (.+) \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE
    )
    words = [word for word, _ in rows]
    assert len(words) == len({*words})
    assert {*words} >= {
        *("seat", "stream", "row", "slot", "batch", "ceiling", "preset", "profile", "recording", "card"),
        *("version", "cut model", "coalescing", "admission", "deadline", "urgency", "priority"),
        *("worker table", "trace ring", "accuracy guard", "parity"),
    }
    for word, meaning in rows:
        assert meaning.endswith("."), word
        assert len(re.findall(r"\.(?: |$)", meaning)) <= 2, word


def test_the_readme_links_every_page_and_pages_link_the_glossary():
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in readme, page.name
        generated_or_plain = {"glossary.md", "commands.md", "settings.md", "testing.md", "package.md"}
        assert page.name in generated_or_plain or "(glossary.md)" in page.read_text(), page.name


def test_every_extra_is_on_the_page_that_an_index_shows():
    page = (ROOT / "docs" / "package.md").read_text().partition("## Extras")[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = re.findall(r"^\| (`.*`) \|", page, re.M)
    listed = [name for row in rows[1:] for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted({*project["optional-dependencies"]} - {"test"})


def test_every_route_is_in_the_docs():
    pages = "".join(
        (ROOT / "docs" / name).read_text() for name in ("serving.md", "protocols.md", "profile.md")
    )
    without_optional_parts = re.sub(r"\[[^][]*\]", "", re.sub(r"\[[^][]*\]", "", pages))
    for route in routes(Mock(spec=Pool)):
        fixed = re.split("<|:", route.rule)[0]
        assert fixed in pages or fixed in without_optional_parts, route.rule


def test_the_figures_of_fuzzing_and_memory_are_those_of_their_files():
    page = (ROOT / "docs" / "security.md").read_text()
    for target in json.loads((ROOT / "docs" / "results" / "fuzz.json").read_text())["targets"]:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{target['target']}`:")]
        figures = [str(target["seconds"]), f"{target['executions'] / 1e6:.1f}", str(len(target["findings"]))]
        assert [cell.strip() for cell in line.split("|")[2:-1]] == figures
        for finding in target["findings"]:
            file, _, test = finding["test"].partition("::")
            assert f"def {test}(" in (ROOT / file).read_text(), finding["test"]
    soak = json.loads((ROOT / "docs" / "results" / "soak.json").read_text())
    for kind in ("rss", "uss"):
        before, after, growth = (soak[name][f"{kind}_mib"] for name in ("before", "after", "growth"))
        assert f"| {kind.upper()} | {before:.0f} | {after:.0f} | {100 * growth:+.2f} % |" in page
