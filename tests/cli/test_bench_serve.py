"""`cpuserve bench serve` against a plain server: table, files, exit codes, and words that contradict."""

import csv
import itertools
import json
import re
import sys
import threading

import pytest

from cpuserve.cli import main
from cpuserve.measuring import several_servers
from tests.measuring.conftest import Handler, Server, plain  # noqa: F401  # a fixture


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


def test_the_help_states_the_clients_that_are_used(bench, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "serve", "--help"])
    stated = re.search(
        r"\[default, without\s+--request-rate-range: (\d+):(\d+):x2\]", capsys.readouterr().out
    )
    assert stated is not None
    first, last = map(int, stated.groups())
    _, out, _ = bench(*SMALL, "--max-windows", "1", "--json")
    used = [load["concurrency"] for load in json.loads(out)["loads"]]
    assert (used[0], used[-1]) == (first, last)
    assert all(more == 2 * fewer for fewer, more in itertools.pairwise(used))


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


def test_the_servers_of_a_registry_are_followed(bench, plain, tmp_path, monkeypatch):  # noqa: F811
    other = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
    first, second = (f"http://127.0.0.1:{one.server_port}" for one in (plain, other))
    asked = []
    monkeypatch.setattr(several_servers, "measure_window", noting(asked, tmp_path / "servers", second))
    (tmp_path / "servers").write_text(f"{first}\n{second}\n")
    words = (*SMALL, "--concurrency-range", "2", "--max-windows", "3", "--json")
    code, out, _ = bench(*words, url=f"@{tmp_path}/servers")
    other.shutdown()
    other.server_close()
    assert code in {0, 3}
    load = json.loads(out)["loads"][0]
    assert load["errors"] == {}
    assert {*asked[:2]} == {plain.server_port, other.server_port}
    assert {*asked[2:]} == {other.server_port}  # the registry names it alone after the first window


def noting(asked, registry, left):
    real = several_servers.measure_window

    def measure(target, *words, **terms):
        asked.append(target.port)
        window = real(target, *words, **terms)
        registry.write_text(left)
        return window

    return measure


def test_a_registry_that_goes_away_leaves_the_servers_as_they_are(bench, plain, tmp_path, monkeypatch):  # noqa: F811
    registry = tmp_path / "servers"
    registry.write_text(f"http://127.0.0.1:{plain.server_port}\n")
    real = several_servers.measure_window

    def measure(*words, **terms):
        registry.unlink(missing_ok=True)
        return real(*words, **terms)

    monkeypatch.setattr(several_servers, "measure_window", measure)
    words = (*SMALL, "--concurrency-range", "1", "--max-windows", "2", "--json")
    code, out, err = bench(*words, url=f"@{registry}")
    assert code == 3
    assert json.loads(out)["loads"][0]["windows"] == 2
    assert "the servers stay as they are" in err


def test_loadgen_takes_no_registry(bench, tmp_path):
    code, _, err = bench("--scenario", "server", url=f"@{tmp_path}/servers")
    assert code == 2
    assert "--scenario loads one server" in err
