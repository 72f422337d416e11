"""`cpuserve tune report` over recorded trials, as a user calls it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from cpuserve.cli.tune.report import command
from cpuserve.errors import UsageError
from cpuserve.tune.trial_journal import TrialJournal
from tests.tune.made_trials import figures, trials

KEY = {"fingerprint": "zen", "machine": {"cores": 2}, "objective": "throughput", "constraints": []}
VERDICT = {"process": "PyTorch", "environment": "KMP_BLOCKTIME=0", "words": "helps", "why": "so"}


@pytest.fixture
def folder(tmp_path):
    journal = TrialJournal(tmp_path / "zen" / "net.trials.jsonl", KEY)
    made = trials(({}, figures(100)), ({"max_batch": 16}, figures(110)), ({"workers": 9}, "too many"))
    for trial in made:
        journal.append(trial)
    return tmp_path


def run(folder, *words):
    given = ["--tuning-dir", str(folder), "--machine", "zen", *words]
    return CliRunner().invoke(command, given, catch_exceptions=False)


def test_tables_and_a_page(folder):
    (folder / "zen" / "openmp.json").write_text(json.dumps({"verdicts": [VERDICT]}))
    done = run(folder, "net")
    assert done.exit_code == 0
    for words in ("Chosen: max_batch=16", "helps +10.0 %", "failed: too many", "KMP_BLOCKTIME=0"):
        assert words in done.output
    page = folder / "zen" / "net.html"
    assert done.output.splitlines()[-1] == f"page: {page}"
    assert "Chosen: max_batch=16" in page.read_text()
    assert "KMP_BLOCKTIME=0" in page.read_text()


def test_json_alone(folder):
    done = run(folder, "net", "--json")
    assert json.loads(done.output)["best"]["settings"] == {"max_batch": 16}
    assert not list(folder.rglob("*.html"))


def test_quiet_and_another_file(folder):
    done = run(folder, "net", "--quiet", "--out", str(folder / "r.html"))
    assert done.output == f"page: {folder / 'r.html'}\n"
    assert (folder / "r.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("other",), "no trials of other in .*: run cpuserve tune other"),
        (("net", "also"), "no trials of net.also in .*: run cpuserve tune net also"),
        (("net", "--machine", "arm"), "no trials of net in .*arm"),
        (("net", "--out", "/dev/null/x"), "--out /dev/null/x: Not a directory"),
        (("net", "--openmp", "LIST"), "no verdicts in it"),
        (("net", "--openmp", "LACKING"), "lack process, environment, words or why"),
    ],
)
def test_what_cannot_be_reported(folder, words, message):
    (folder / "LIST").write_text("[1]")
    (folder / "LACKING").write_text('{"verdicts": [{"words": "x"}]}')
    found = [str(folder / word) if word.isupper() else word for word in words]
    with pytest.raises(UsageError, match=message):
        run(folder, *found)
