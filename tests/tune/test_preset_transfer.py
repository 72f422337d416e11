"""What of a preset holds on another machine, for another model, with another OpenVINO."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpuserve.tune.preset_store import judge
from cpuserve.tune.preset_transfer import transfer_preset
from tests.tune import made_presets as made

KNOBS = {
    "workers": 4,
    "threads": 3,
    "streams": 2,
    "precision": "bf16",
    "max_batch": 4,
    "env.OMP_NUM_THREADS": 1,
}


def moved(own, here, **knobs):
    return transfer_preset(judge(made.preset(own, **(knobs or KNOBS)), Path("f"), here), here.machine)


def test_an_exact_one_and_one_of_another_openvino_hold_whole():
    for here in (made.key(), made.key(openvino="2.0")):
        found = moved(made.key(), here)
        assert found.settings == {name: value for name, value in KNOBS.items() if "." not in name}
        assert (found.environ, found.left_out, found.scaled) == ({"OMP_NUM_THREADS": "1"}, {}, "")


def test_another_model_was_never_asked_for_answers_of_that_precision():
    found = moved(made.key(), made.key(ir="bb"))
    assert set(found.settings) == {"workers", "threads", "streams", "max_batch"}
    assert "another one" in found.left_out["precision"]


def test_seats_keep_their_size_on_another_number_of_cores():
    found = moved(made.key(), made.key(cores=32, cpus=32, threads=32))
    assert found.settings == {
        "cores_per_worker": 2,
        **{name: KNOBS[name] for name in ("threads", "streams", "precision", "max_batch")},
    }
    assert "2 cores" in found.scaled
    assert found.environ == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (made.key(cores=1, cpus=1, threads=1), "seats of 2 cores do not fit"),
        (made.key(smt=True), "other kinds of core or siblings"),
    ],
)
def test_seats_that_do_not_fit_are_left_to_the_defaults(here, words):
    found = moved(made.key(), here)
    assert found.settings == {"precision": "bf16", "max_batch": 4}
    assert found.environ == {}
    assert {words in why for why in found.left_out.values()} == {True}


def test_threads_for_default_seats_do_not_follow_to_other_seats():
    found = moved(made.key(), made.key(cores=4, cpus=4, threads=4), threads=3, max_batch=4)
    assert found.settings == {"max_batch": 4}
    assert "left to the defaults there" in found.left_out["threads"]


def test_another_instruction_set_takes_no_precision():
    found = moved(made.key(), made.key(flags=["avx2"]))
    assert "precision" not in found.settings
    assert found.settings["workers"] == 4
