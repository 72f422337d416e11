"""A page is one file: it escapes what it is given, loads nothing, and runs only the script that is in it."""

from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError

from cpuserve.reports.drawing import Drawing
from cpuserve.reports.page import embedded, render

EVIL = "<script>alert('x')</script>"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a template of its own."""
    folder = tmp_path / "a_room" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "own.html").write_text(
        '{% extends "base.html" %}{% block body %}<p>{{ words }}</p>{% endblock %}'
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "a_room"


def test_every_value_is_escaped_but_a_drawing(package):
    html = render(package, "own.html", title=EVIL, script="", words=EVIL)
    assert EVIL not in html
    assert html.count("&lt;script&gt;alert(&#39;x&#39;)") == 2
    drawing = Drawing(10, 20, EVIL)
    drawing.text(1, 2, EVIL, f'"{EVIL}')
    html = render(package, "own.html", title="", script="", words=drawing)
    assert '<p><svg viewBox="0 0 10 20"' in html
    assert EVIL not in html


def test_a_page_forbids_to_load_anything_and_to_run_another_script(package):
    html = render(package, "own.html", title="", script="", words="")
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert "script-src 'none'" in html.replace("&#39;", "'")
    html = render(package, "own.html", title="", script="flame.js", words="").replace("&#39;", "'")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", html)
    assert html.count("<script>") == 1
    assert not re.search(r"https?://|url\(|@import|fetch\(|<link|<img|<iframe", html)


def test_a_value_that_is_missing_is_an_error(package):
    with pytest.raises(UndefinedError, match="words"):
        render(package, "own.html", title="", script="")


def test_colours_follow_the_page_in_the_light_and_in_the_dark():
    style = embedded("style.css")
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    named = set(re.findall(r"(--\w+):", light))
    assert named == set(re.findall(r"(--\w+):", dark.partition("}")[0]))
    assert set(re.findall(r"var\((--\w+)\)", style)) <= named
