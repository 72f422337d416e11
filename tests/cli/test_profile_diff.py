"""Two profiles side by side, as words and as JSON."""

from __future__ import annotations

import dataclasses
import json

from click.testing import CliRunner

from cpuserve.cli import cli
from cpuserve.errors import UsageError
from cpuserve.profiling.recording import BatchSpan, Recording, RequestSpan


def recording(decode_ms):
    end = 10_000_000 + decode_ms * 1_000_000
    stages = [("decode", 0, decode_ms * 1_000_000), ("infer", decode_ms * 1_000_000, end)]
    return Recording(
        model="m",
        date="2026-01-01T00:00:00+00:00",
        machine="cpu",
        seconds=1.0,
        began_ns=0,
        ended_ns=1_000_000_000,
        overhead={"noise": 0.1},
        settings={"decode": "exact" if decode_ms > 5 else "fast"},
        requests=[RequestSpan("1", 2, 3, 0, end, stages, 0, 1, 200)],
        batches=[BatchSpan(0, 2, 3, decode_ms * 1_000_000, end, 1)],
    )


def run(*words):
    return CliRunner().invoke(cli, ["profile", "diff", *map(str, words)])


def test_what_became_faster_is_shown_with_its_factor(tmp_path):
    recording(10).save(tmp_path / "a")
    recording(5).save(tmp_path / "b")
    done = run(tmp_path / "a", tmp_path / "b")
    assert done.exit_code == 0, done.output
    assert "setting decode: exact -> fast" in done.output
    (line,) = [
        line
        for line in done.output.splitlines()
        if line.split()[:1] == ["decode"] and line.split()[-1] == "ms"
    ]
    assert line.split() == ["decode", "10", "5", "0.50", "ms"]


def test_changes_within_the_noise_of_both_are_marked(tmp_path):
    recording(10).save(tmp_path / "a")
    recording(9).save(tmp_path / "b")
    said = run(tmp_path / "a", tmp_path / "b")
    assert "both speeds changed by 14%" in said.output
    assert "0.90~" in said.output
    told = json.loads(run(tmp_path / "a", tmp_path / "b", "--json").output)
    (decode,) = (line for line in told["stages"] if line["name"] == "decode")
    assert decode["within_noise"] is True
    assert abs(told["noise"] - 0.02**0.5) < 1e-9


def test_under_the_load_of_others_the_halves_tell_the_noise(tmp_path):
    one = recording(10)
    requests = [dataclasses.replace(one.requests[0], ended_ns=end) for end in (1, 2, 3, 999_999_999)]
    busy_first = dataclasses.replace(one, overhead={}, requests=requests)
    busy_first.save(tmp_path / "a")
    dataclasses.replace(one, overhead={"noise": 0.0}).save(tmp_path / "b")
    assert json.loads(run(tmp_path / "a", tmp_path / "b", "--json").output)["noise"] == 0.5


def test_json_has_all_of_it(tmp_path):
    recording(10).save(tmp_path / "a")
    dataclasses.replace(recording(5), model="other").save(tmp_path / "b")
    told = json.loads(run(tmp_path / "a", tmp_path / "b", "--json").output)
    assert told["same_model"] is False
    assert {line["name"] for line in told["stages"]} >= {"decode", "infer"}


def test_a_directory_without_a_profile_is_refused(tmp_path):
    recording(1).save(tmp_path / "a")
    (tmp_path / "b").mkdir()
    done = run(tmp_path / "a", tmp_path / "b")
    assert isinstance(done.exception, UsageError)
    assert "profile.json cannot be read" in str(done.exception)
    assert run(tmp_path / "a", tmp_path / "none").exit_code == 2
