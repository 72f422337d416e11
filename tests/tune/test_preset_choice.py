"""What the presets add to the settings: below everything a user says, for the server and for each model."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shutil
from pathlib import Path

import pytest

from cpuserve.models.repository import Repository
from cpuserve.settings import Settings, load
from cpuserve.tune.preset import Preset
from cpuserve.tune.preset_choice import apply_presets, transfer_preset
from cpuserve.tune.preset_key import PresetKey
from cpuserve.tune.preset_store import PresetStore, judge
from tests.conftest import ROOT
from tests.machine import trees
from tests.tune import made_presets as made


@pytest.fixture
def machine(tmp_path):
    """8 cores."""
    return trees.grid(tmp_path / "root", sockets=1, nodes_each=1, cores=8, smt=1).status("0-7").root


@pytest.fixture
def models(tmp_path):
    """Two models, named ``one`` and ``two``."""
    for name in ("one", "two"):
        shutil.copytree(ROOT / "ir_models" / "digits" / "1", tmp_path / "models" / name / "1")
    return tmp_path / "models"


@pytest.fixture
def tuned(tmp_path, machine, models):
    """Keeps a preset of a model; gives its file."""

    def keep(model="one", cpu_ms=5.0, together=(), environ=None, key=None, **knobs):
        own = key or PresetKey.read(*(Repository(models).find(name) for name in ("one", "two")), root=machine)
        for name, text in (environ or {}).items():
            knobs[f"env.{name}"] = text
        trial = made.trial(**knobs)
        trial = dataclasses.replace(trial, figures=made.figures(cpu_ms=cpu_ms))
        return PresetStore(tmp_path / "tuning").write(Preset.of_trials(model, own, trial, models=together))

    return keep


@pytest.fixture
def applied(tmp_path, machine, models):
    """Applies the presets below settings given as on the command line."""

    def call(environ=None, **flags):
        flags = {"model_repository": models, "tuning_dir": tmp_path / "tuning", **flags}
        return apply_presets(load(flags, environ=environ or {}), environ or {}, machine)

    return call


def warnings(found):
    return [line for level, line in found.said if level == logging.WARNING]


def test_without_presets_nothing_changes(applied, tuned):
    found = applied()
    assert (found.document["match"], found.settings.tuned, found.environ) == ("none", {}, {})
    assert "none for one, two" in found.said[0][1]
    tuned(workers=2)
    off = applied(preset="off")
    assert (off.document, off.settings.workers, off.said) == (None, None, ())


def test_an_exact_one_sets_the_layout_and_its_models_settings(applied, tuned):
    file = tuned(workers=2, threads=3, max_batch=2, streams=2, environ={"OMP_NUM_THREADS": "1"})
    found = applied()
    assert (found.settings.workers, found.settings.threads) == (2, 3)
    assert found.environ == {"OMP_NUM_THREADS": "1"}
    one, two = (found.settings.for_model(name, {"precision": "f32"}) for name in ("one", "two"))
    assert (one.max_batch, one.streams, one.precision) == (2, 2, "f32")
    assert (two.max_batch, two.streams) == (None, None)
    shown = json.loads(json.dumps(found.document))
    assert (shown["match"], shown["layout_from"]) == ("exact", "one")
    assert shown["models"]["one"]["path"] == str(file)
    assert shown["models"]["one"]["applied"] == {"workers": 2, "threads": 3, "max_batch": 2, "streams": 2}
    assert shown["models"]["one"]["expected"]["images_per_s"] == 100.0
    assert "two" not in shown["models"]
    assert not warnings(found)
    assert "expects 100 images/s (98 to 102)" in found.said[-1][1]


def test_everything_a_user_says_wins(applied, tuned, tmp_path):
    tuned(workers=2, threads=3, max_batch=2, precision="f32", environ={"OMP_NUM_THREADS": "1"})
    found = applied({"OMP_NUM_THREADS": "4", "CPUSERVE_PRECISION": "bf16"}, max_batch=4, threads=1)
    one = found.settings.for_model("one", {})
    assert (one.workers, one.threads, one.max_batch, one.precision) == (2, 1, 4, "bf16")
    assert found.environ == {}
    left = found.document["models"]["one"]["left_out"]
    assert left["max_batch"] == "--max-batch says 4"
    assert left["precision"] == "CPUSERVE_PRECISION says bf16"
    file = tmp_path / "s.toml"
    file.write_text("[models.one]\nmax_batch = 1\n")
    settings = load({"model_repository": tmp_path / "models"}, file=file, environ={})
    settings = dataclasses.replace(settings, tuning_dir=tmp_path / "tuning")
    assert apply_presets(settings, {}, tmp_path / "root").settings.for_model("one", {}).max_batch == 1


def test_a_given_shape_keeps_the_whole_layout_out(applied, tuned):
    tuned(workers=2, threads=3, streams=1, max_batch=2, environ={"OMP_NUM_THREADS": "1"})
    found = applied(workers=1)
    one = found.settings.for_model("one", {})
    assert (one.workers, one.threads, one.streams, one.max_batch) == (1, None, None, 2)
    assert (found.environ, found.document["layout_from"]) == ({}, None)
    assert any("--workers" in line for _, line in found.said)


def test_the_layout_is_that_of_the_heaviest_model_or_of_a_search_over_all(applied, tuned):
    tuned("one", cpu_ms=5, workers=2, streams=3, max_batch=2)
    tuned("two", cpu_ms=50, workers=4, streams=2, max_batch=4)
    found = applied()
    assert (found.document["layout_from"], found.settings.workers) == ("two", 4)
    one, two = (found.settings.for_model(name, {}) for name in ("one", "two"))
    assert (one.max_batch, one.streams) == (2, None)
    assert (two.max_batch, two.streams) == (4, 2)
    assert "but of two's" in found.document["models"]["one"]["left_out"]["streams"]
    tuned("one", cpu_ms=5, together=["one", "two"], workers=8)
    assert applied().document["layout_from"] == "one"


def test_another_machines_preset_is_a_warning_with_what_differs(applied, tuned, machine, models):
    key = PresetKey.read(Repository(models).find("one"), root=machine)
    far = dataclasses.replace(key, fingerprint="far", machine={**key.machine, "cores": 32, "flags": ["sve"]})
    tuned(key=far, workers=16, threads=2, precision="bf16", max_batch=4)
    found = applied()
    assert (found.settings.cores_per_worker, found.settings.workers, found.settings.threads) == (2, None, 2)
    assert found.settings.for_model("one", {}).precision == "auto"
    (line,) = warnings(found)
    for words in ("nearest", "cores 32 there, 8 here", "precision (the CPU has other", "cpuserve tune one"):
        assert words in line
    shown = found.document["models"]["one"]
    assert (shown["match"], shown["differs"]["cores"]) == ("nearest", {"preset": 32, "here": 8})
    assert "expected" not in shown
    assert shown["measured_there"]["images_per_s"] == 100.0


def test_a_stale_one_is_named(applied, tuned, machine, models):
    key = PresetKey.read(Repository(models).find("one"), root=machine)
    tuned(key=dataclasses.replace(key, openvino="0.1"), max_batch=4)
    found = applied()
    assert found.settings.for_model("one", {}).max_batch == 4
    (line,) = warnings(found)
    assert "stale" in line
    assert "OpenVINO version 0.1 there" in line


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"workers": 9}, "may use 8 CPUs"),
        ({"streams": 4, "inference_threads": 2}, "streams 4 with inference_threads 2"),
        ({"allocator": "tcmalloc"}, "no libtcmalloc_minimal.so"),
    ],
)
def test_a_layout_that_cannot_be_had_is_left_out(applied, tuned, knobs, words):
    tuned(max_batch=2, **knobs)
    found = applied()
    one = found.settings.for_model("one", {})
    assert (one.workers, one.streams, one.allocator, one.max_batch) == (None, None, "none", 2)
    assert any(words in line for line in warnings(found))


def test_a_file_may_be_named_and_no_file_is_a_failure(applied, tuned, tmp_path):
    file = tuned(max_batch=2)
    named = applied(preset=str(file), tuning_dir="nowhere")
    assert named.settings.for_model("one", {}).max_batch == 2
    missing = applied(preset=str(tmp_path / "none.json"))
    assert "cannot be read" in warnings(missing)[0]
    assert missing.document["refused"]
    file.write_text("{")
    broken = applied()
    assert (broken.document["match"], broken.settings.tuned) == ("none", {})
    assert "is not JSON" in warnings(broken)[0]
    other = PresetStore(tmp_path / "elsewhere").write(made.preset())
    assert "preset of m, which is not served" in warnings(applied(preset=str(other)))[0]


def leaves(document, path=()):
    """Where every value of a JSON document stands."""
    parts = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for name, value in parts:
        yield (*path, name)
        yield from leaves(value, (*path, name))


def test_no_file_whatever_is_in_it_is_a_failure(applied, tuned, machine, models):
    key = PresetKey.read(Repository(models).find("one"), root=machine)
    key = dataclasses.replace(key, machine={**key.machine, "cores": 16, "cache_bytes": 5})
    file = tuned(key=key, workers=8, threads=2, precision="f32", environ={"OMP_NUM_THREADS": "1"})
    whole = json.loads(file.read_text())
    junk_of = itertools.cycle((None, "x", -1, 10**400, [], {}, {"a": [1]}, "\0", True))
    tried = 0
    for path, junk in zip(leaves(whole), junk_of, strict=False):
        broken = json.loads(json.dumps(whole))
        place = broken
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = junk
        file.write_text(json.dumps(broken))
        found = applied()
        json.dumps(found.document)
        for name, text in found.environ.items():
            assert "\0" not in name + text
        tried += 1
    assert tried > 50
    for text in ("[" * 100_000, "\0", "{}", "3", '"x"', "null", "1e999"):
        file.write_text(text)
        assert applied().document["match"] == "none"


def test_a_preset_stands_between_the_file_and_the_metadata():
    settings = dataclasses.replace(Settings(), tuned={"one": {"precision": "bf16"}})
    assert settings.for_model("one", {"precision": "f32"}).precision == "bf16"
    assert settings.for_model("two", {"precision": "f32"}).precision == "f32"


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
