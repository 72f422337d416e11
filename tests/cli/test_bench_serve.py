"""`cpuserve bench serve` against a plain server: table, files, exit codes, and words that contradict."""

import csv
import json
import sys

import pytest

from cpuserve.cli import main
from tests.measuring.conftest import Handler, plain  # noqa: F401  # a fixture


@pytest.fixture
def bench(plain, capsys, monkeypatch):  # noqa: F811  # the fixture
    def call(*words, url=None):
        words = ["bench", "serve", url or f"http://127.0.0.1:{plain.server_port}", *words]
        monkeypatch.setattr(sys, "argv", ["cpuserve", *words])
        with pytest.raises(SystemExit) as end:
            main(words)
        return end.value.code, *capsys.readouterr()

    return call


SMALL = ("--window-seconds", "0.2", "--model", "m")


def test_table_csv_and_json_say_the_same(bench, tmp_path):
    files = {"--csv": tmp_path / "t.csv", "--out": tmp_path / "o.json"}
    words = [word for name, file in files.items() for word in (name, str(file))]
    code, out, err = bench(
        *SMALL, "--concurrency-range", "2", "--request-rate-range", "50", "--max-windows", "2", *words
    )
    assert (code, err) == (3, "")  # two windows are never stable
    assert "Inferences" in out
    assert "made picture" in out
    assert "NO" in out
    found = json.loads(files["--out"].read_text())
    assert found["command"].startswith("cpuserve bench serve ")
    assert [(load["concurrency"], load["request_rate"]) for load in found["loads"]] == [
        (2, None),
        (None, 50.0),
    ]
    with files["--csv"].open() as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["p99 latency"]) for row in rows] == [load["p99_ms"] for load in found["loads"]]
    assert {path for path, _ in Handler.seen} == {"/predictions/m"}


def test_a_request_that_is_refused_ends_with_1(bench, tmp_path, monkeypatch):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr(Handler, "statuses", {b"b.jpg": 503})
    words = ("--concurrency-range", "1", "--images", str(tmp_path), "--max-windows", "3")
    code, out, _ = bench(*SMALL, *words, "--json")
    assert code == 1
    assert json.loads(out)["loads"][0]["errors"]["503"] > 0


def test_quiet_says_nothing(bench):
    code, out, err = bench(*SMALL, "--concurrency-range", "1", "--max-windows", "1", "--quiet")
    assert (code, out, err) == (3, "", "")


def test_a_scenario_of_loadgen(bench):
    code, out, _ = bench("--scenario", "singlestream", "--seconds", "0.5", "--model", "m")
    assert code in {0, 3}
    assert "LoadGen based, scenario singlestream (not an MLPerf result)" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--concurrency-range", "0"), "--concurrency-range 0"),
        (("--scenario", "server", "--csv", "x"), "--scenario"),
        (("--workers", "2"), "--workers is for a server started here"),
        (("--out", "nowhere/x.json"), "there is no directory nowhere"),
        (("--images", "nowhere"), "does not exist"),
    ],
)
def test_words_that_cannot_be_meant(bench, words, said):
    code, _, err = bench(*words, "--model", "m")
    assert code == 2
    assert said in err


def test_a_model_is_named_once(bench):
    code, _, err = bench("--model", "other", url="digits")
    assert code == 2
    assert "--model other" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--protocol", "tensors", "--images", "."), "leave --images out"),
        (("--batch", "2"), "--batch is for --protocol tensors"),
    ],
)
def test_words_about_what_is_sent_that_contradict(bench, words, reason):
    code, _, err = bench(*words)
    assert code == 2
    assert reason in err
