"""`cpuserve video eval`: its table, its JSON and its exit codes."""

import json

import pytest

from cpuserve.cli import main


@pytest.fixture
def files(tmp_path):
    truth = [0] * 300 + [1] * 300
    labels = list(truth)
    labels[450:480] = [0] * 30
    for name, values in (("labels", labels), ("truth", truth)):
        rows = "".join(f"{number},{value}\n" for number, value in enumerate(values))
        (tmp_path / f"{name}.csv").write_text(f"frame,label\n{rows}")
    return [str(tmp_path / "labels.csv"), "--truth", str(tmp_path / "truth.csv")]


def run(*words):
    with pytest.raises(SystemExit) as end:
        main(["video", "eval", *words])
    return end.value.code


def test_rates_are_printed_with_intervals(files, capsys):
    assert run(*files) == 0
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.strip().startswith("FN, windows")]
    assert line.split() == ["FN,", "windows", "1", "10", "10.00%", "0.25", "-", "44.50", "%", "1"]
    assert "600 frames, 20 windows, 95.00% of them labelled alike; the true label changes 1 times" in text


def test_json_has_the_figures(files, capsys):
    assert run(*files, "--json", "--confidence", "0.9") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"]["fn"]["rate"] == 0.1
    assert found["accuracy"]["fp"]["wrong"] == 0
    assert found["accuracy"]["agreement"] == 0.95
    assert found["frames"] == 600


def test_a_budget_that_is_broken_fails(files, capsys):
    assert run(*files, "--quiet", "--fn", "0.1", "--fp", "0") == 0
    assert capsys.readouterr().out == ""
    assert run(*files, "--quiet", "--fn", "0.05") == 1
    assert "FN is 10.00% of windows, above --fn 5.00%" in capsys.readouterr().err


def test_a_budget_that_nothing_can_tell_of_fails(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("frame,label\n" + "".join(f"{number},0\n" for number in range(60)))
    words = [str(tmp_path / "a.csv"), "--truth", str(tmp_path / "a.csv")]
    assert run(*words, "--fp", "0.1") == 0
    assert run(*words, "--fn", "0.1") == 1
    assert "no window to tell FN from" in capsys.readouterr().err


def test_a_missing_file_is_a_wrong_option(tmp_path, capsys):
    assert run(str(tmp_path / "none.csv"), "--truth", str(tmp_path / "none.csv")) == 2
    assert "none.csv cannot be read: No such file" in capsys.readouterr().err
