"""A preset keeps what was measured, says what to expect, and sets nothing that is none of its business."""

from __future__ import annotations

import json

import pytest

from cpuserve.errors import UsageError
from cpuserve.tune.preset import Preset
from cpuserve.tune.trial import Point, Trial
from tests.tune import made_presets as made


def test_it_comes_back_from_its_file_as_it_was():
    facts = {
        "workers": 4,
        "properties": {
            "m": {"NUM_STREAMS": "2", "INFERENCE_NUM_THREADS": "3", "ENABLE_CPU_PINNING": "False"}
        },
    }
    best = made.trial(3, 120.0, facts, workers=4, max_batch=2, **{"env.OMP_NUM_THREADS": 1})
    whole = Preset.of_trials(
        "m",
        made.key(),
        best,
        runner_up=made.trial(2, 114.0, workers=8),
        default=made.trial(0, 100.0),
        constraints=["p99_ms<=50"],
        command="cpuserve tune m --images /home/somebody/photos",
    )
    document = json.loads(json.dumps(whole.to_json()))
    assert json.loads(json.dumps(Preset.from_json(document).to_json())) == document
    assert document["config"] == {
        "CPU": {"NUM_STREAMS": 8, "INFERENCE_NUM_THREADS": 12, "ENABLE_CPU_PINNING": True}
    }
    assert document["settings"] == {"workers": 4, "max_batch": 2}
    assert document["environ"] == {"OMP_NUM_THREADS": "1"}
    assert document["command"] == "cpuserve tune m --images photos"
    assert document["runner_up"]["settings"] == {"workers": 8}
    assert document["runner_up"]["lost"]["images_per_s"] == -0.05
    assert document["expected"]["images_per_s"] == 120.0
    assert document["expected"]["images_per_s_low"] == 117.6


def test_models_that_were_served_together_share_the_images():
    whole = Preset.of_trials("m", made.key(), made.trial(), models=["m", "other"], mix=[3, 1])
    assert whole.expected()["images_per_s"] == 75.0


def test_a_failed_trial_makes_no_preset():
    with pytest.raises(UsageError, match="trial 4 failed"):
        Preset.of_trials("m", made.key(), Trial(4, Point(), "search", None, "no seat"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, '"schema": 1'),
        ({"settings": {"host": "0.0.0.0"}}, "host is nothing a preset may set"),
        ({"settings": {"workers": "many"}}, "workers takes a whole number"),
        ({"environ": {"LD_PRELOAD": "/x.so"}}, "LD_PRELOAD is no variable of OpenMP"),
        ({"measured": {"images_per_s": 1}}, "wrong type"),
        ({"key": {"fingerprint": "x"}}, "its key"),
        ({"mix": 3}, "wrong type"),
    ],
)
def test_what_is_no_preset_is_refused(change, words):
    with pytest.raises(UsageError) as caught:
        Preset.from_json(made.preset().to_json() | change)
    assert words in str(caught.value)
    with pytest.raises(UsageError, match="schema"):
        Preset.from_json([])


def test_what_is_missing_is_named():
    document = made.preset().to_json()
    del document["objective"]
    with pytest.raises(UsageError, match="it has no 'objective'"):
        Preset.from_json(document)
