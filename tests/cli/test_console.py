"""Tables never break a name, a path or a URL."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

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
