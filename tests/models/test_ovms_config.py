"""config.json: what its keys become, which are named as unused, which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpuserve.errors import UsageError
from cpuserve.models.ovms_config import read_ovms_config
from cpuserve.models.repository import Repository
from cpuserve.settings import Settings


@pytest.fixture
def read(tmp_path: Path):
    def read(document):
        file = tmp_path / "config.json"
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        return read_ovms_config(file)

    return read


def models(*configs, **more):
    return {"model_config_list": [{"config": config} for config in configs], **more}


def one(**keys):
    return models({"name": "m", "base_path": "/models/m", **keys})


def test_everything_that_can_be_honoured_becomes_a_setting(read):
    found = read(
        models(
            {
                "name": "resnet",
                "base_path": "/models/resnet",
                "batch_size": 16,
                "shape": {"data": "(1,3,64,64)"},
                "layout": "NHWC:NCHW",
                "mean": [1, 2, 3],
                "scale": 255,
                "color_format": "BGR:RGB",
                "target_device": "AUTO",
                "plugin_config": {"ENABLE_MMAP": False, "INFERENCE_PRECISION_HINT": "f32"},
                "model_version_policy": {"specific": {"versions": [1, 3]}},
                "cpuserve": {"decode": "exact"},
            },
            {"name": "beside", "base_path": "here"},
        )
    )
    assert found.models["resnet"] == {
        "model_path": "/models/resnet",
        "max_batch": 16,
        "shape": '{"data": "(1,3,64,64)"}',
        "layout": "NHWC:NCHW",
        "mean": "[1, 2, 3]",
        "scale": "255",
        "color_format": "BGR:RGB",
        "plugin_config": '{"ENABLE_MMAP": false, "INFERENCE_PRECISION_HINT": "f32"}',
        "model_version_policy": '{"specific": {"versions": [1, 3]}}',
        "decode": "exact",
    }
    assert Path(found.models["beside"]["model_path"]).is_absolute()  # beside the file, wherever we are
    assert [note.split(": ", 1)[1] for note in found.notes] == [
        "batch_size 16 is read as max_batch 16: requests may hold any number of rows"
    ]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (one(nireq=4), "nireq is not used"),
        (one(nothing=1), "unknown key 'nothing'"),
        (one(layout="auto"), "layout auto is not used"),
        (one(allow_cache=True), "--cache-dir"),
        (one(max_sequence_number=500), "no sequences"),
        (one(idle_sequence_cleanup=False), "no sequences"),
        (one(plugin_config={"NUM_STREAMS": 4}), "NUM_STREAMS follow the worker's seat"),
        (models(monitoring={"metrics": {"enable": True}}), "always on"),
        (models(other=1), "unknown key 'other'"),
        ({"model_config_list": [{"config": {"name": "m", "base_path": "x"}, "extra": 1}]}, "'extra'"),
    ],
)
def test_what_is_not_used_is_named(read, document, words):
    (note,) = read(document).notes
    assert words in note


def test_keys_that_change_nothing_need_no_words(read):
    assert not read(
        one(target_device="CPU", batch_size="auto", model_version_policy={"latest": {"num_versions": 1}})
    ).notes
    assert not read(models(pipeline_config_list=[], mediapipe_config_list=[])).notes
    assert not read(one(stateful=False, low_latency_transformation=False)).notes


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "not JSON"),
        ("[]", "model_config_list"),
        ({}, "model_config_list"),
        ({"model_config_list": [3]}, "model 0"),
        (models({"name": "m"}), '"base_path"'),
        (models({"base_path": "m"}), '"name"'),
        (models({"name": "m", "base_path": "s3://bucket/m"}), "local directories"),
        (models({"name": "m", "base_path": "a"}, {"name": "m", "base_path": "b"}), "taken"),
        (one(target_device="GPU"), "CPU or AUTO"),
        (one(target_device="HETERO:GPU,CPU"), "CPU or AUTO"),
        (one(batch_size="many"), "whole number or auto"),
        (one(plugin_config="{"), "JSON object"),
        (one(plugin_config={"A": {"B": 1}}), "texts, numbers"),
        (one(model_version_policy={"newest": {}}), "model_version_policy"),
        (one(mean={"a": 1}), "mean is a number"),
        (one(layout=3), "layout is a text"),
        (one(graph_path="graph.pbtxt"), "MediaPipe"),
        (one(cpuserve={"port": 1}), "decode"),
        (one(cpuserve={"decode": "slow"}), "exact"),
        (models(pipeline_config_list=[{"name": "p"}]), "pipelines are not served"),
        (models(custom_loader_config_list=[{}]), "custom loaders"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_place(read, document, words):
    with pytest.raises(UsageError) as caught:
        read(document)
    assert words in str(caught.value)
    assert "config.json" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_ovms_config(tmp_path / "none.json")


def model_at(folder: Path, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


def test_models_lie_where_a_storage_initialiser_leaves_them(tmp_path):
    def found(path, version=None):
        settings = Settings(model_repository=tmp_path, model_name="m", model_path=str(path))
        repository = Repository.of(settings)
        assert repository.names() == ["m"]
        return repository.find("m", version)

    model_at(tmp_path / "versions" / "1", "model.xml", "model.bin")
    model_at(tmp_path / "versions" / "4", "model.onnx", "notes.txt")
    model_at(tmp_path / "flat", "model.xml", "model.bin")
    model_at(tmp_path / "other", "a.tflite")
    assert found(tmp_path / "versions").version == 4
    assert found(tmp_path / "versions", 1).xml == tmp_path / "versions" / "1" / "model.xml"
    assert found(tmp_path / "flat").xml == tmp_path / "flat" / "model.xml"
    assert [file.name for file in found(tmp_path / "flat").files] == ["model.xml", "model.bin"]
    assert found(tmp_path / "flat" / "model.xml").version == 1
    assert found(tmp_path / "other").xml.name == "a.tflite"


def test_a_path_without_a_model_says_so(tmp_path):
    model_at(tmp_path / "none", "readme.md")
    model_at(tmp_path / "two", "a.onnx", "b.onnx")
    model_at(tmp_path / "half", "a.xml")
    for folder, words in (
        ("none", "0 files"),
        ("two", "2 files"),
        ("half", "no a.bin"),
        ("gone", "there is no such file or directory"),
    ):
        settings = Settings(model_repository=tmp_path, model_name="m", model_path=str(tmp_path / folder))
        repository = Repository.of(settings)
        assert repository.names() == []
        assert words in repository.why_empty()
        assert folder in repository.why_empty()


def test_a_name_that_no_model_may_have_is_told_of_by_the_rule(tmp_path):
    model_at(tmp_path / "flat", "model.xml", "model.bin")
    for name in ("a/b", "_a", "a b", "n" * 129):
        repository = Repository.of(Settings(model_name=name, model_path=str(tmp_path / "flat")))
        assert repository.names() == []
        assert "a name is 1 to 128 letters, digits" in repository.why_empty()


def test_a_config_json_without_models_asks_for_none_whatever_the_repository_holds(tmp_path):
    model_at(tmp_path / "root" / "a" / "1", "m.xml", "m.bin")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(models()))
    repository = Repository.of(Settings(model_repository=tmp_path / "root", config_path=str(config)))
    assert repository.names() == []
    assert repository.wants_none
    assert not Repository.of(Settings(model_repository=tmp_path / "root")).wants_none
    assert not Repository.of(Settings(model_repository=tmp_path / "gone")).wants_none


def test_only_what_is_named_is_served(tmp_path):
    for name in ("a", "b"):
        model_at(tmp_path / "root" / name / "1", "m.xml", "m.bin")
    model_at(tmp_path / "c", "m.xml", "m.bin")
    section = {"c": {"model_path": str(tmp_path / "c")}}
    root = tmp_path / "root"
    assert Repository.of(Settings(model_repository=root)).names() == ["a", "b"]
    assert Repository.of(Settings(model_repository=root, models=section)).names() == ["a", "b", "c"]
    assert Repository.of(Settings(model_repository=root, models=section, config_path="x")).names() == ["c"]
    assert Repository.of(Settings(model_repository=root, model_name="b")).names() == ["b"]
