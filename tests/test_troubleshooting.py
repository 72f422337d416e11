"""Every message that the page on troubleshooting quotes is one that the package can say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpuserve.settings.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
SEEN = [words for row in ROWS for words in re.findall(r"`([^`]+)`", row[0]) if " " in words]
VALUE = "\0"


def texts(node: ast.AST) -> Iterator[str]:
    """The texts of a module, as a reader sees them, with VALUE in the place of what is filled in."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring is said to nobody who runs the program
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
        yield "".join(map(str, parts))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.sub(r"%(\.\d+)?[a-z]", VALUE, node.value)
    for child in ast.iter_child_nodes(node):
        yield from texts(child)


@pytest.fixture(scope="module")
def messages():
    files = sorted((ROOT / "cpuserve").rglob("*.py"))
    return [text for file in files for text in texts(ast.parse(file.read_text()))]


def says(message: str, quoted: str) -> bool:
    """Whether a message is the quoted one: its fixed parts, in their order, with something between them."""
    fixed = [re.escape(part.strip()) for part in quoted.split("...") if part.strip()]
    return re.search(".*".join(fixed), message, re.DOTALL) is not None


def test_messages_are_quoted():
    assert len(SEEN) >= 30
    assert says("port \0 of \0 is in use: stop it", "port ... of ... is in use: ...")
    assert not says("port \0 of \0 is free", "port ... of ... is in use: ...")


@pytest.mark.parametrize("quoted", SEEN)
def test_a_quoted_message_is_in_the_code(quoted, messages):
    assert any(says(message, quoted) for message in messages), quoted


def test_quotes_have_words_of_their_own():
    for quoted in SEEN:
        assert max(len(part.strip()) for part in quoted.split("...")) >= 8, f"{quoted} would fit anything"


def test_the_settings_named_are_settings():
    commands = (ROOT / "docs" / "commands.md").read_text()
    for option in set(re.findall(r"`(--[a-z_-]+)", PAGE)) - {"--data", "--user", "--tmpfs"}:
        assert re.search(rf"{option}\b", commands), option
    names = set(Settings.__dataclass_fields__)
    cited = {word for row in ROWS for word in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", row[-1])}
    assert cited
    assert cited <= names, cited - names
