import json

import pytest

from cpuserve.errors import CpuserveError, UnknownModel, UsageError
from cpuserve.tune.objective import Objective
from cpuserve.tune.preset_store import read_preset
from cpuserve.tune.search import SearchLimits
from cpuserve.tune.trial import Point
from cpuserve.tune.trial_journal import read_trials
from cpuserve.tune.tuning_run import TuningRequest, parse_mix, tune
from tests.conftest import ROOT
from tests.tune.made_trials import figures


class Measuring:
    """A machine on which one worker is best and waiting is bad."""

    def __init__(self, facts=None):
        self.asked = []
        self.facts = facts or {"openmp": [], "workers": 1, "properties": {}}

    def __call__(self, point):
        self.asked.append(point)
        if point.get("max_queue_delay_us"):
            raise CpuserveError("it is late")
        return figures(200 if point.get("workers") == 1 else 100, rss_mib=250.0, facts=self.facts)

    def hints(self):
        return {"THROUGHPUT": Point.of({"workers": 1, "streams": 2}), "LATENCY": Point.of({"workers": 2})}


@pytest.fixture
def request_for(tmp_path):
    def make(*models, **more):
        chosen = {
            "objective": Objective(),
            "limits": SearchLimits(trials=14),
            "mix": (1,) * len(models),
            **more,
        }
        return TuningRequest(models, ROOT / "ir_models", tmp_path / "tuning", **chosen)

    return make


def test_from_a_model_to_its_preset(request_for):
    measuring, seen = Measuring(), []
    request = request_for("digits", command="cpuserve tune digits")
    outcome = tune(request, measuring, on_trial=lambda trial, _search: seen.append(trial))
    assert outcome.mode == "quick"
    assert seen == list(outcome.trials)
    assert len(seen) == 14
    assert [trial.reason for trial in seen[:2]] == ["default", "hint:THROUGHPUT"]
    assert outcome.best.point.get("workers") == 1
    assert (outcome.gain, outcome.within_noise) == (pytest.approx(1.0), False)
    assert outcome.drift == 0
    (file,) = outcome.presets
    preset = read_preset(file)
    assert preset.settings["workers"] == 1
    assert preset.measured.images_per_s == 200
    assert preset.defaults.images_per_s == 100
    assert preset.command == "cpuserve tune digits"
    document = json.loads(json.dumps(outcome.document()))
    assert document["trials"] == 14
    assert document["failed"] == sum(trial.figures is None for trial in seen)
    assert document["best"]["settings"] == dict(outcome.best.point.knobs)
    assert document["best"]["figures"]["images_per_s"] == 200
    assert document["space"]["points"] == len(outcome.space.points)
    assert list(document["hints"]) == ["THROUGHPUT"]  # the other one is what the defaults are
    recorded = read_trials(outcome.trials_file)
    assert recorded.space["dropped"]
    assert recorded.key["fingerprint"] == outcome.trials_file.parent.name


def test_the_hint_that_is_the_defaults_costs_no_trial(request_for):
    outcome = tune(request_for("digits"), Measuring())
    assert len([trial for trial in outcome.trials if trial.point == Point()]) == 2


def test_going_on_measures_what_is_missing(request_for):
    tune(request_for("digits", limits=SearchLimits(trials=6)), Measuring())
    again, notes = Measuring(), []
    outcome = tune(request_for("digits"), again, on_start=notes.extend)
    assert len(again.asked) == 8
    assert len(outcome.trials) == 14
    assert "going on after 6 trials" in notes[0]


def test_openmp_that_the_defaults_have_mapped_widens_the_space(request_for):
    facts = {"openmp": ["libgomp.so.1"], "workers": 1, "properties": {}}
    outcome = tune(request_for("digits"), Measuring(facts))
    assert any(point.get("env.OMP_NUM_THREADS") for point in outcome.space.points)
    assert "env.OMP_NUM_THREADS" not in outcome.space.not_tried()


def test_where_nothing_keeps_the_constraints_there_is_no_preset(request_for):
    outcome = tune(request_for("digits", objective=Objective.parse("throughput", ["p99_ms<=1"])), Measuring())
    assert outcome.presets == ()
    assert outcome.best.excess == pytest.approx(9.0)
    assert not list(outcome.trials_file.parent.glob("*.json"))


def test_models_that_share_the_machine_have_a_preset_each(request_for, tmp_path):
    root = tmp_path / "models"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "1").symlink_to(ROOT / "ir_models" / "digits" / "1")
    request = request_for("a", "b", mix=(3, 1))
    outcome = tune(
        TuningRequest(**{**vars(request), "repository": root}),
        Measuring(),
    )
    assert outcome.trials_file.name == "a+b.trials.jsonl"
    presets = [read_preset(file) for file in outcome.presets]
    assert [(p.model, p.models, p.mix) for p in presets] == [
        ("a", ("a", "b"), (3, 1)),
        ("b", ("a", "b"), (3, 1)),
    ]
    assert all(not point.get("enable_cpu_pinning") for point in outcome.space.points)


def test_a_model_that_is_not_there_is_named(request_for):
    with pytest.raises(UnknownModel, match="nothing"):
        tune(request_for("nothing"), Measuring())


@pytest.mark.parametrize(("text", "mix"), [(None, (1, 1)), ("3:1", (3, 1)), ("999:1", (999, 1))])
def test_mixes_are_read(text, mix):
    assert parse_mix(text, ["a", "b"]) == mix


@pytest.mark.parametrize("text", ["", "3", "3:1:1", "3:0", "3:x", "-3:1", "1.5:1", "1000:1"])
def test_a_mix_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match=r"the models \(2\), as 3:1"):
        parse_mix(text, ["a", "b"])
