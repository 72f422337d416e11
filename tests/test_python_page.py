"""Every block of docs/python.md is run, in order, and prints what the page says."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from tests.servers import serving

PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, "--model-repository", str(ROOT / "ir_models")) as server:
        yield server.port


def test_the_blocks_print_what_the_page_says(port, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert len(BLOCKS) == PAGE.count("```python") > 6
    assert sum(bool(printed) for _, printed in BLOCKS) == PAGE.count("```text")
    names: dict[str, object] = {}
    for code, printed in BLOCKS:
        exec(code.replace(":8000", f":{port}"), names)  # noqa: S102
        assert capsys.readouterr().out == printed, code
