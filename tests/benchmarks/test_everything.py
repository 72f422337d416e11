"""All benchmarks in a row: commands that exist, with words that they know; a failure ends with 1."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks import everything
from cpuserve.cli import main as cpuserve
from tests.conftest import ROOT

FOLDER = Path("photos")


def help_of(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [words[0], "--help"])
    with pytest.raises(SystemExit) as end:
        if words[0] == "cpuserve":
            group = words[1:3] if words[1] == "bench" else words[1:2]
            cpuserve([*group, "--help"])
        else:
            importlib.import_module(words[0]).main()
    assert not end.value.code
    return capsys.readouterr().out


def commands(folder):
    return everything.runs(Path("models"), "m", folder, [folder / "a.jpg"])


def test_every_command_knows_its_words(tmp_path, monkeypatch, capsys):
    (tmp_path / "bad").mkdir()
    for file, words in commands(tmp_path).items():
        text = help_of(words, monkeypatch, capsys)
        for flag in [word for word in words if word.startswith("--")] + ["--out"]:
            assert flag in text, f"{file}: {flag}"


def test_what_has_no_pictures_for_it_is_left_out():
    assert "soak.json" not in commands(FOLDER)
    assert "decoding.json" not in everything.runs(Path("models"), "m", FOLDER, [FOLDER / "a.png"])


def test_the_page_says_how_each_file_is_made():
    page = (ROOT / "docs" / "bench.md").read_text()
    for file in {*commands(FOLDER), "soak.json"}:
        assert f"`{file}`" in page, file


def test_every_benchmark_names_the_command_that_runs_it():
    files = [file for file in (ROOT / "benchmarks").glob("*.py") if "__main__" in file.read_text()]
    assert len(files) > 20
    for file in files:
        assert re.search(rf"\bbenchmarks\.{file.stem}\b", file.read_text()), file


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    fake = tmp_path / "fake.py"
    fake.write_text("import sys; open(sys.argv[3], 'w').write('{}'); sys.exit(int(sys.argv[1]))")
    monkeypatch.setattr(everything, "_MODULE", (sys.executable, str(fake)))
    made = {"good.json": ["0"], "unstable.json": ["3"], "bad.json": ["2"]}
    monkeypatch.setattr(everything, "runs", lambda *_: made)

    def run(*words):
        results = ["--results", str(tmp_path / "results")]
        monkeypatch.setattr(sys, "argv", ["everything", *results, *words])
        with pytest.raises(SystemExit) as end:
            everything.main()
        return end.value.code, *capfd.readouterr()

    return run


def test_all_are_run_and_a_failure_is_told(call, tmp_path):
    code, out, _ = call()
    assert code == 1
    assert "failed (2)" in out
    assert "unstable" in out
    names = {file.name for file in (tmp_path / "results").iterdir()}
    assert names == {"good.json", "unstable.json", "bad.json"}


def test_some_can_be_chosen(call, tmp_path):
    code, *_ = call("--only", "good.json", "unstable.json")
    assert code == 0
    assert json.loads((tmp_path / "results" / "good.json").read_text()) == {}
    assert not (tmp_path / "results" / "bad.json").exists()
    code, _, err = call("--only", "other.json")
    assert code == 2
    assert "good.json, unstable.json, bad.json" in err
