"""`cpuserve video plan` as a user types it."""

from __future__ import annotations

import json

import pytest

from cpuserve.cli import main
from cpuserve.video.replicas import Replicas
from tests.video.fake_replica import fake_replicas
from tests.video.test_replicas import run

HAND = ("--service-ms", "80", "--gap-ms", "15")


@pytest.fixture
def plan(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["video", "plan", *arguments])
        return end.value.code, *capsys.readouterr()

    return call


def test_times_by_hand(plan):
    status, out, _ = plan(*HAND, "--frames", "120", "--replicas", "1,2")
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[1][:6] == ["120", "1", "9.62", "s", "11.40", "s"]
    assert rows[2][:4] == ["120", "2", "4.83", "s"]
    assert "knee: 2" in out


def test_quiet_prints_the_table_only(plan):
    assert len(plan(*HAND, "--frames", "50", "--replicas", "1,2", "--quiet")[1].splitlines()) == 3


def test_json(plan):
    status, out, _ = plan(*HAND, "--json", "--frames", "120", "--replicas", "4", "--policy", "random")
    found = json.loads(out)
    assert status == 0
    assert found["times"] == {"client_s": 0.015, "service_s": [0.08], "network_s": 0.0}
    assert found["fleet"]["policy"] == "random"
    assert found["runs"][0]["replicas"] == 4
    assert found["runs"][0]["p99_ms"] > found["runs"][0]["p50_ms"]


def test_the_published_table(plan):
    status, out, _ = plan("--paper")
    assert status == 0
    assert len(out.splitlines()) == 1 + 20 + 4
    assert json.loads(plan("--paper", "--json")[1])["cells"][0]["published_s"] == 66


def test_times_of_a_run(plan, tmp_path):
    with fake_replicas(1) as (fake,):
        fake.delay_s = 0.02
        with Replicas([fake.url], "colours", payload="raw", in_flight=1) as model:
            run(model, 30)
            report = model.report()
    file = tmp_path / "stats.json"
    file.write_text(json.dumps({"video": "a.mp4", "reference": report}))
    status, out, _ = plan("--from", str(file), "--json", "--frames", "50", "--replicas", "1", "--gap-ms", "1")
    found = json.loads(out)
    assert status == 0
    assert len(found["times"]["service_s"]) == 20
    assert all(20 <= 1000 * one < 22 for one in found["times"]["service_s"])
    assert found["times"]["client_s"] == 0.001
    assert found["runs"][0]["makespan_s"] == pytest.approx(50 * 0.021, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "give --from FILE, or --service-ms and --gap-ms"),
        (("--service-ms", "80"), "--gap-ms"),
        (("--service-ms", "0", "--gap-ms", "1"), "0.0"),
        ((*HAND, "--replicas", "0,1"), "whole numbers from 1 to 1000"),
        ((*HAND, "--frames", "many"), "'many' is no list"),
        ((*HAND, "--share", "0"), "--share"),
        (("--paper", *HAND), "--paper has its own times"),
        (("--from", "nowhere.json"), "nowhere.json cannot be read"),
    ],
)
def test_wrong_options_are_refused(plan, arguments, reason):
    status, _, err = plan(*arguments)
    assert status == 2
    assert reason in err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no JSON"),
        ("[1]", "has no times of replicas"),
        ('{"replicas": []}', "has no times of replicas"),
        ('{"replicas": [{"service_quantiles_ms": ["a"]}], "client_ms": 1}', "has no times of replicas"),
        (
            '{"replicas": [{"service_quantiles_ms": [5], "overhead_ms": 1}], "client_ms": null}',
            "has no times of replicas",
        ),
    ],
)
def test_files_without_times_are_refused(plan, tmp_path, text, reason):
    file = tmp_path / "stats.json"
    file.write_text(text)
    status, _, err = plan("--from", str(file))
    assert status == 2
    assert reason in err
    assert "stats.json" in err
