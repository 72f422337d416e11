"""`cpuserve plan`: what it prints, from a preset and from a number, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpuserve.cli import main
from cpuserve.machine.power import EnergySample
from tests.conftest import ROOT

PRESET = str(next((ROOT / "tuning" / "example").rglob("digits.json")))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *words])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_a_preset_a_rate_and_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, PRESET, "--rate", "2000", "--price-per-hour", "0.40", "--json")
    assert code == 0
    found = json.loads(out)
    speed = json.loads(Path(PRESET).read_text())["measured"]["images_per_s"]
    assert found["images_per_s"] == speed
    assert found["machines"] == -(-2000 // (0.6 * speed)) + 1
    assert found["cost_per_million"] == pytest.approx(0.4 * 1e6 / (0.6 * speed) / 3600)
    assert "not stable" in err


def test_a_number_and_watts_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--images-per-s", "500", "--rate", "1000", "--watts", "150", "--price-per-kwh", "0.3")
    code, out, _ = run(capsys, *words, "--price-per-hour", "0.54")
    assert code == 0
    assert out.splitlines() == [
        "one machine does 500 pictures a second",
        "it is given      300 at the peak (load 0.6)",
        "machines         5 for 1000 a second, 1 spare (load 0.50 while they are missing)",
        "a million takes  0.926 machine hours",
        "a million costs  0.5, hours without requests not counted",
        "energy           0.5 J a picture, 0.139 kWh a million",
        "electricity      0.0417 a million",
    ]


def test_power_that_is_measured_or_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [EnergySample(0, {"a": 0}, {"a": 0}), EnergySample(2, {"a": 300_000_000}, {"a": 0})]
    monkeypatch.setattr(EnergySample, "take", lambda: samples.pop(0))
    code, out, _ = run(capsys, "--images-per-s", "500", "--measure-watts", "0.01")
    assert (code, "energy           0.5 J a picture" in out) == (0, True)
    monkeypatch.setattr(EnergySample, "take", lambda: None)
    code, _, err = run(capsys, "--images-per-s", "500", "--measure-watts", "0.01")
    assert (code, "give --watts" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give a PRESET, or --images-per-s"),
        ((PRESET, "--images-per-s", "5"), "give a PRESET, or --images-per-s"),
        (("--images-per-s", "5", "--watts", "9", "--measure-watts", "1"), "leave one out"),
        (("--images-per-s", "0"), "is not in the range x>0"),
        (("--images-per-s", "5", "--load", "2"), "'--load': 2.0 is not in the range 0<x<=1"),
        ((str(ROOT / "README.md"),), "is not JSON"),
    ],
)
def test_what_is_refused(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    code, _, err = run(capsys, *words)
    assert code in {1, 2}
    assert said in err
