"""Presets by machine: the exact one, a stale one, the nearest one, none; broken files are passed by."""

from __future__ import annotations

import json

import pytest

from cpuserve.errors import UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.models.repository import ModelFile
from cpuserve.tune.preset_key import IR, OPENVINO, PresetKey, model_digest
from cpuserve.tune.preset_store import PresetStore
from tests.machine import trees
from tests.tune import made_presets as made


@pytest.fixture
def store(tmp_path):
    return PresetStore(tmp_path / "tuning")


def test_none_and_exact(store):
    assert store.find("m", made.key()).kind == "none"
    file = store.write(made.preset(max_batch=4))
    assert file == store.root / "cpu-8c" / "m.json"
    assert [path.name for path in file.parent.iterdir()] == ["m.json"]
    match = store.find("m", made.key())
    assert (match.kind, match.distance, match.differs, match.path) == ("exact", 0, {}, file)
    assert match.preset.settings == {"max_batch": 4}
    assert store.trials_file("cpu-8c", "m").parent == file.parent


@pytest.mark.parametrize(("change", "name"), [({"openvino": "2.0"}, OPENVINO), ({"ir": "bb"}, IR)])
def test_another_openvino_or_model_makes_it_stale(store, change, name):
    store.write(made.preset())
    match = store.find("m", made.key(**change))
    assert (match.kind, match.distance, list(match.differs)) == ("stale", 0, [name])


def test_the_nearest_machine_is_taken_and_a_stale_preset_of_this_one_before_it(store):
    store.write(made.preset(made.key(cores=64, cpus=64, threads=64)))
    near = store.write(made.preset(made.key(cores=16, cpus=16, threads=16)))
    match = store.find("m", made.key())
    assert (match.kind, match.path) == ("nearest", near)
    assert match.differs == {"cores": (16, 8), "cpus": (16, 8), "threads": (16, 8)}
    assert 0 < match.distance < store.find("m", made.key(cores=4, cpus=4, threads=4)).distance
    store.write(made.preset(made.key(openvino="0.9")))
    assert store.find("m", made.key()).kind == "stale"


def test_another_instruction_set_is_further_than_another_clock():
    here = made.key()
    assert here.distance(made.key(governor="powersave")) < here.distance(made.key(flags=["avx2"]))
    assert here.distance(here) == 0


def test_broken_files_are_named_and_passed_by(store):
    good = store.write(made.preset())
    for folder, text in (("a", "{"), ("b", "[]"), ("c", json.dumps(made.preset(model="other").to_json()))):
        (store.root / folder).mkdir()
        (store.root / folder / "m.json").write_text(text)
    match = store.find("m", made.key())
    assert (match.kind, match.path) == ("exact", good)
    assert len(match.refused) == 3
    assert "is not JSON" in match.refused[0]
    assert "a preset of other, not of m" in match.refused[2]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "tuning").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        PresetStore(tmp_path / "tuning").write(made.preset())


def test_the_key_is_of_the_machine_and_of_the_files_content(tmp_path):
    root = trees.grid(tmp_path / "root", sockets=2, nodes_each=1, cores=4, smt=2).status("0-15").root
    (tmp_path / "m.xml").write_text("graph")
    (tmp_path / "m.bin").write_bytes(b"weights")
    file = ModelFile("m", 1, tmp_path / "m.xml")
    key = PresetKey.read(file, root=root)
    assert key.fingerprint == Fingerprint.read(root, Budget.read(root), Topology.read(root)).short
    assert (key.machine["cores"], key.machine["nodes"], key.machine["smt"]) == (8, 2, True)
    assert key.ir_sha256 == {"m": model_digest(file)}
    (tmp_path / "m.bin").write_bytes(b"weight5")
    assert key.differences(PresetKey.read(file, root=root), "m").keys() == {IR}
    assert PresetKey.from_json(json.loads(json.dumps(key.to_json()))).differences(key, "m") == {}
