"""`cpuserve tune`: words, output and exit codes; what it measures with is made up."""

import json
import shlex
import sys
from typing import Any

import pytest

from cpuserve.cli import main
from cpuserve.tune.trial import Point
from tests.conftest import ROOT
from tests.tune.made_trials import figures

MADE: dict[str, Any] = {}


class Measurer:
    """As the real one, but at once; ends where ``ends_after`` says."""

    def __init__(self, models, repository, images, *, level, mix, window_seconds):
        MADE.update(models=models, images=images, level=level, mix=mix, window_seconds=window_seconds)

    def __call__(self, point):
        MADE["trials"] = MADE.get("trials", 0) + 1
        if MADE["trials"] > MADE.get("ends_after", 10**9):
            raise KeyboardInterrupt
        facts = {"workers": 1, "properties": {"digits": {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "2"}}}
        return figures(100 + 10 * len(point.knobs), facts=facts)

    def hints(self):
        return {"THROUGHPUT": Point.of({"workers": 1, "streams": 1})}


@pytest.fixture
def tune(tmp_path, capsys, monkeypatch):
    MADE.clear()
    monkeypatch.setattr("cpuserve.tune.measurer.Measurer", Measurer)

    def call(*words, models=ROOT / "ir_models"):
        places = ["--tuning-dir", str(tmp_path / "tuning"), "--model-repository", str(models)]
        words = ["tune", *words, *places]
        monkeypatch.setattr(sys, "argv", ["cpuserve", *words])
        with pytest.raises(SystemExit) as end:
            main(words)
        return end.value.code, *capsys.readouterr()

    return call


def test_a_model_is_tuned_without_a_word_between(tune, tmp_path):
    code, out, err = tune("digits", "--max-trials", "10", "--constraint", "p99_ms<=50", "--budget", "30s")
    assert code == 0
    assert "best" in out
    assert "OpenVINO's hint THROUGHPUT" in out
    assert "10 trials (0 failed)" in out
    assert "+" in out.split("against the defaults: ")[1]
    (preset,) = (tmp_path / "tuning").glob("*/digits.json")
    assert f"preset: {preset}" in out
    assert "1. default: the defaults: 100.0 images/s" in err
    assert (MADE["level"], MADE["mix"], MADE["window_seconds"]) == ("http", (1,), 0.25)
    stored = json.loads(preset.read_text())
    assert (stored["constraints"], stored["command"][:20]) == (["p99_ms<=50"], "cpuserve tune digits")


def test_the_long_form_is_the_same_and_options_may_come_first(tune):
    assert tune("search", "digits", "--max-trials", "2")[0] == 0
    assert MADE["window_seconds"] == 2.0
    assert tune("--window-seconds", "0.5", "--max-trials", "2", "digits", "--level", "engine")[0] == 0
    assert (MADE["level"], MADE["window_seconds"]) == ("engine", 0.5)


def test_json_is_one_document(tune):
    code, out, err = tune("digits", "--max-trials", "4", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["models"], found["trials"], found["objective"]) == (["digits"], 4, "throughput")
    assert found["default"]["settings"] == {}


def test_quiet_says_nothing(tune):
    assert tune("digits", "--max-trials", "2", "--quiet") == (0, "", "")


def test_constraints_that_nothing_keeps_end_with_3(tune, tmp_path):
    code, out, _ = tune("digits", "--max-trials", "4", "--constraint", "p99_ms<=1")
    assert code == 3
    assert "nothing keeps p99_ms<=1" in out
    assert not list((tmp_path / "tuning").glob("*/digits.json"))


def test_ctrl_c_says_how_to_go_on_and_that_goes_on(tune):
    MADE["ends_after"] = 3
    code, _, err = tune("digits", "--max-trials", "8")
    assert code == 130
    line = err.strip().splitlines()[-1]
    words = shlex.split(line.partition("Go on: ")[2])
    assert words[:3] == ["cpuserve", "tune", "digits"]
    MADE.clear()
    code, out, err = tune("digits", "--max-trials", "8")
    assert (code, MADE["trials"]) == (0, 5)
    assert "going on after 3 trials" in err
    assert "8 trials" in out


def test_another_objective_keeps_the_trials_of_the_first(tune, tmp_path):
    tune("digits", "--max-trials", "3")
    _, _, err = tune("digits", "--max-trials", "3", "--objective", "latency")
    assert "of another search (objective): kept as digits.trials.jsonl.1" in err
    assert len(list((tmp_path / "tuning").glob("*/digits.trials.jsonl*"))) == 2


def test_report_and_export_know_what_was_found(tune, tmp_path):
    tune("digits", "--max-trials", "10")
    words = ["--tuning-dir", str(tmp_path / "tuning")]
    with pytest.raises(SystemExit) as end:
        main(["tune", "report", "digits", *words, "--out", str(tmp_path / "r.html")])
    assert end.value.code == 0
    assert "<svg" in (tmp_path / "r.html").read_text()
    code, out, _ = tune("export", "digits", "--to", "env")
    assert code == 0
    assert "CPUSERVE_WORKERS=1" in out
    code, out, _ = tune("export", "digits", "--to", "benchmark_app", "--out", str(tmp_path / "b.json"))
    assert (code, out) == (0, "")
    assert json.loads((tmp_path / "b.json").read_text())["CPU"]["NUM_STREAMS"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--constraint", "p99<5"], "the figures are"),
        (["digits", "--budget", "soon"], "1h30m"),
        (["digits", "--mix", "1:2"], "--mix '1:2'"),
        (["digits", "digits"], "name each model once"),
        (["digits", "--precisions", "f64"], "there are auto, f32"),
        (["digits", "--objective", "speed"], "throughput"),
        (["digits", "--mode", "magic"], "quick"),
        (["--max-trials", "3"], "MODEL"),
        (["export", "digits", "--to", "env"], "run cpuserve tune digits"),
        (["export", "digits", "--to", "word"], "benchmark_app"),
        (["export", "digits", "--to", "env", "--machine", "far"], "far/digits.json"),
    ],
)
def test_wrong_words_end_with_2(tune, words, said):
    code, out, err = tune(*words)
    assert (code, out) == (2, "")
    assert said in err


def test_a_model_that_is_not_there_ends_with_1(tune):
    code, _, err = tune("nothing", "--max-trials", "2")
    assert code == 1
    assert "no model 'nothing'" in err
