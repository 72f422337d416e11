import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpuserve import __version__
from cpuserve.errors import UsageError
from cpuserve.settings import SETTINGS, Group, Settings, load
from cpuserve.settings.model_settings import ModelSettings
from cpuserve.settings.server_settings import ServerSettings


def test_every_field_but_what_files_add_is_a_setting():
    others = {"models", "own_models", "tuned", "origin", "only", "notes"}
    fields = {f.name: f.default for f in dataclasses.fields(Settings) if f.name not in others}
    assert fields == {name: setting.default for name, setting in SETTINGS.items()}


def test_each_setting_is_declared_once_and_beside_its_kind():
    of_server, of_models = (
        {one.name for one in dataclasses.fields(kind)} for kind in (ServerSettings, ModelSettings)
    )
    assert not of_server & of_models
    assert of_server | of_models == set(SETTINGS)
    assert {name for name, setting in SETTINGS.items() if setting.per_model} <= of_models
    assert not {SETTINGS[name].group for name in of_server} & {SETTINGS[name].group for name in of_models}


def test_help_shows_the_groups_in_their_order():
    groups = [group for group, _ in itertools.groupby(setting.group for setting in SETTINGS.values())]
    assert groups == list(Group)


@pytest.mark.parametrize(
    ("name", "kind", "choices", "default"),
    [
        ("port", int, (), 8000),
        ("workers", int, (), None),
        ("node_id", tuple, (), None),
        ("share_weights", bool, (), None),
        ("tuning_dir", Path, (), Path("tuning")),
        ("mode", str, ("latency", "throughput"), None),
        ("log_format", str, ("text", "json"), "text"),
    ],
)
def test_the_annotation_says_type_and_choices(name, kind, choices, default):
    setting = SETTINGS[name]
    assert (setting.kind, setting.choices, setting.default) == (kind, choices, default)


def test_defaults_are_values_their_settings_take():
    wrong = [
        name
        for name, setting in SETTINGS.items()
        if setting.parse("auto" if setting.default is None else setting.default, name) != setting.default
    ]
    assert wrong == []


def test_settings_stand_by_group_and_every_group_has_some():
    groups = [setting.group for setting in SETTINGS.values()]
    assert [group for group, _ in itertools.groupby(groups)] == list(Group)


def test_loading_settings_imports_nothing_heavy():
    code = "import sys, cpuserve.settings; print({'numpy', 'openvino', 'click', 'cv2'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


def test_command_line_beats_environment_beats_file_beats_default(tmp_path):
    file = tmp_path / "cpuserve.toml"
    file.write_text('port = 1\nhost = "file"\ndecode = "exact"\n')
    environ = {"CPUSERVE_PORT": "2", "CPUSERVE_HOST": "environment"}
    settings = load({"port": 3, "workers": None}, file=file, environ=environ)
    assert (settings.port, settings.host, settings.decode) == (3, "environment", "exact")
    assert settings.queue_size == 64
    assert settings.origin == {"port": "--port", "host": "CPUSERVE_HOST", "decode": str(file)}


def test_an_option_wins_over_a_variable_that_could_not_be_read():
    settings = load({"port": "9"}, environ={"CPUSERVE_PORT": "nonsense"})
    assert (settings.port, settings.origin) == (9, {"port": "--port"})


@pytest.mark.parametrize("name", ["port", "grpc_port"])
def test_the_variable_that_kubernetes_sets_for_a_service_is_left_out_with_a_note(name):
    variable = SETTINGS[name].variable
    settings = load({}, environ={variable: "tcp://10.96.0.7:8000"})
    assert (getattr(settings, name), settings.origin) == (SETTINGS[name].default, {})
    assert [note for note in settings.notes if variable in note and "tcp://10.96.0.7:8000" in note]


def test_words_may_be_written_as_openvino_does():
    settings = load({}, environ={"CPUSERVE_SCHEDULING_CORE_TYPE": "PCORE_ONLY", "CPUSERVE_PRECISION": "BF16"})
    assert (settings.scheduling_core_type, settings.precision) == ("pcore_only", "bf16")


def test_auto_means_decided_on_this_machine():
    assert load({}, environ={"CPUSERVE_WORKERS": "auto"}).workers is None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CPUSERVE_PORT": "http"}, ["CPUSERVE_PORT", "whole number", "http"]),
        ({"CPUSERVE_DECODE": "slow"}, ["CPUSERVE_DECODE", "fast, exact", "slow"]),
        ({"CPUSERVE_PRECISION": "fp16"}, ["CPUSERVE_PRECISION", "did you mean f16?"]),
        ({"CPUSERVE_WORKERS": "0"}, ["CPUSERVE_WORKERS", "at least 1"]),
        ({"CPUSERVE_PORT": "80000"}, ["CPUSERVE_PORT", "at most 65535", "80000"]),
        ({"CPUSERVE_GRPC_PORT": "65536"}, ["CPUSERVE_GRPC_PORT", "at most 65535"]),
        ({"CPUSERVE_DEADLINE_MS": "nan"}, ["CPUSERVE_DEADLINE_MS", "a number", "nan"]),
        ({"CPUSERVE_RATE_LIMIT": "inf"}, ["CPUSERVE_RATE_LIMIT", "a number", "inf"]),
    ],
)
def test_a_wrong_value_names_variable_limit_and_value(environ, words):
    with pytest.raises(UsageError) as caught:
        load({}, environ=environ)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", ["prot", "did you mean port"]),
        ("worker = 1", ["worker", "did you mean", "workers"]),
        ("zzzzz = 1", ["zzzzz", "cpuserve serve --help"]),
        ("port = true", ["whole number"]),
        ("workers = 1.5", ["whole number", "1.5"]),
        ("workers = inf", ["whole number", "inf"]),
        ("deadline_ms = nan", ["a number", "nan"]),
        ("port =", ["not TOML"]),
        ("[models.a]\nport = 1", ["models.a", "port", "the whole server"]),
        ("[models.a]\ndecod = 1", ["models.a", "did you mean decode"]),
        ("models = 3", ["table"]),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, words):
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load({}, file=file, environ={})
    assert all(word in str(caught.value) for word in [*words, str(file)])


def test_a_missing_file_is_refused():
    with pytest.raises(UsageError, match="cannot be read"):
        load({}, file=Path("/nonexistent.toml"), environ={})


def test_model_metadata_counts_only_where_the_user_said_nothing(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text('[models.a]\ndecode = "exact"\n')
    settings = load({"precision": "f32"}, file=file, environ={})
    metadata = {"decode": "fast", "precision": "bf16"}
    assert settings.for_model("a", metadata).decode == "exact"
    assert settings.for_model("b", metadata).decode == "fast"
    assert settings.for_model("a", metadata).precision == "f32"
    assert load({}, environ={}).for_model("b", metadata).precision == "bf16"
    assert load({"decode": "exact"}, environ={}).for_model("b", metadata).decode == "exact"


def test_a_former_name_works_with_a_note_that_names_the_new_one(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text('profile = "off"\n')
    settings = load({}, file=file, environ={})
    assert (settings.preset, settings.origin) == ("off", {"preset": str(file)})
    assert settings.notes == (f"{file}: profile is called preset now and goes in version 0.2",)
    settings = load({}, environ={"CPUSERVE_PROFILE": "p.json"})
    assert (settings.preset, settings.origin) == ("p.json", {"preset": "CPUSERVE_PRESET"})
    assert settings.notes == ("CPUSERVE_PROFILE is called CPUSERVE_PRESET now and goes in version 0.2",)
    assert load({}, environ={"CPUSERVE_PRESET": "off"}).notes == ()


def test_former_and_new_name_together_are_refused():
    with pytest.raises(UsageError, match="CPUSERVE_PROFILE is the former name of CPUSERVE_PRESET"):
        load({}, environ={"CPUSERVE_PROFILE": "off", "CPUSERVE_PRESET": "off"})


def test_former_names_go_with_the_version_that_the_note_names():
    if any(setting.formerly for setting in SETTINGS.values()):
        assert tuple(map(int, __version__.split(".")[:2])) < (0, 2)


def test_settings_survive_json():
    settings = load({"node_id": "0,1", "threads": 2, "cache_dir": "x"}, environ={"CPUSERVE_DECODE": "exact"})
    settings = dataclasses.replace(settings, models={"m": {"max_batch": 2}}, tuning_dir=Path("/t"))
    read = Settings.from_json(json.loads(json.dumps(settings.to_json())))
    assert read == dataclasses.replace(settings, model_repository=Path.cwd() / "ir_models")


def test_settings_of_another_version_are_refused():
    content = Settings().to_json()
    fewer = {name: value for name, value in content.items() if name != "port"}
    for other in ({**content, "colour": "red"}, fewer):
        with pytest.raises(UsageError, match="another version"):
            Settings.from_json(other)
