"""What the measuring commands print agrees with itself."""

from __future__ import annotations

import re

import pytest

from cpuserve.cli.bench.ceiling import _show
from cpuserve.cli.profile import _overhead


def side(cpu_ms, images):
    return {"cpu_ms": {"median": cpu_ms}, "images_per_s": {"median": images}, "connections": 4, "errors": 0}


def test_the_ratio_is_that_of_the_two_figures_before_it(capsys):
    rounds = {"median": 1.2, "least": 0.9, "most": 1.5}
    _show(
        {
            "in_process": side(10.0, 100.0),
            "served": side(11.0, 95.0),
            "cpu_ratio": rounds,
            "images_per_s_ratio": rounds,
            "rounds": [{"served": {"foreign_cores": 0.0}}],
            "errors": {},
            "threads_by_seat": [2],
            "pictures": "one",
        }
    )
    found = re.findall(r"([\d.]+) served, +([\d.]+) in process; ratio ([\d.]+)", capsys.readouterr().out)
    assert len(found) == 2
    for here, there, ratio in found:
        assert float(ratio) == pytest.approx(float(here) / float(there), abs=5e-4)


@pytest.mark.parametrize(
    ("share", "noise", "said"),
    [
        (-0.91, 0.5, "nothing that can be told from noise"),
        (0.1, 0.3, "nothing that can be told from noise"),
        (0.3, 0.1, "watching cost 30.0% of the speed"),
    ],
)
def test_watching_costs_no_less_than_nothing(share, noise, said):
    told = _overhead({"share": share, "noise": noise, "rate_on": 10.0, "rate_off": 20.0})
    assert said in told
    assert "-91" not in told
