"""Tables never break a name, a path or a URL."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console
from rich.table import Table

from cpuserve.cli import console
from cpuserve.cli.console import show_table

LONG = "/srv/models/a-model-whose-name-is-long/1/model.xml"
URL = "https://models.example/" + "x" * 150


def shown(width, *, terminal):
    out = io.StringIO()
    table = Table("name", "path", "url", "empty", title=f"what is in {LONG}")
    table.add_row("first", LONG, URL, "")
    table.add_row("second", "short", "", "")
    show_table(table, Console(file=out, width=width, force_terminal=terminal, color_system=None))
    return out.getvalue()


def test_outside_a_terminal_a_row_is_one_line_however_wide():
    said = shown(80, terminal=False)
    (row,) = [line for line in said.splitlines() if "first" in line]
    assert LONG in row
    assert URL in row


def test_a_table_that_fits_is_a_table():
    said = shown(300, terminal=True)
    assert "┃" in said
    assert any("first" in line and LONG in line and URL in line for line in said.splitlines())


@pytest.mark.parametrize("width", [20, 80])
def test_a_row_that_does_not_fit_is_a_block_with_whole_words(width):
    said = shown(width, terminal=True)
    assert said.splitlines() == [
        f"what is in {LONG}",
        "first",
        f"  path: {LONG}",
        f"  url: {URL}",
        "second",
        "  path: short",
    ]


def lines_of(capsys, count):
    """The first lines on standard error."""
    found = ""
    while found.count("\n") < count:
        time.sleep(0.01)
        found += capsys.readouterr().err
    return found.splitlines()


def test_outside_a_terminal_lines_say_how_far_long_work_is(monkeypatch, capsys):
    monkeypatch.setattr(console, "EVERY_S", 0.02)
    with console.stepping(8, "rounds", shown=True) as step:
        step(3)
        assert lines_of(capsys, 2)[1].startswith("rounds: 3 of 8, ")
        step(5)
    with console.status(shown=True) as say:
        say("reading the model")
        assert set(lines_of(capsys, 2)) == {"reading the model"}


@pytest.mark.parametrize(
    "work", [lambda: console.stepping(8, "rounds", shown=False), lambda: console.status(shown=False)]
)
def test_quiet_work_says_nothing(work, monkeypatch, capsys):
    monkeypatch.setattr(console, "EVERY_S", 0.005)
    with work():
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
