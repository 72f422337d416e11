"""OpenVINO Model Server's flags on `cpuserve serve`."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from cpuserve.errors import install_command


def test_the_words_of_kserves_runtime(serve):
    settings, _, said = serve(
        *("--model_name=resnet", "--model_path=/mnt/models", "--port=9000", "--rest_port=8080"),
        "--file_system_poll_wait_seconds=0",
    )
    assert (settings.model_name, settings.model_path, settings.port) == ("resnet", "/mnt/models", 8080)
    assert (settings.file_system_poll_wait_seconds, settings.grpc_port, said) == (0, 9000, "")


def test_without_the_packages_of_grpc_its_port_is_a_note(serve, monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found(name) if name != "grpc" else None)
    settings, _, said = serve("--port=9000", "--rest_port=8080")
    assert (settings.port, settings.grpc_port) == (8080, 0)
    assert said == (
        f"cpuserve: note: --port 9000 is not used beside --rest-port: gRPC needs {install_command('grpc')}\n"
    )


def test_two_ports_for_grpc_contradict_each_other(serve):
    settings, code, said = serve("--port=9000", "--rest_port=8080", "--grpc-port=9001")
    assert (settings, code) == (None, 2)
    assert "--port 9000 beside --rest-port and --grpc-port 9001 ask for different things" in said


def test_the_address_of_grpc_is_that_of_the_server(serve):
    settings, code, _ = serve("--port=9000", "--rest_port=8080", "--grpc_bind_address=0.0.0.0")
    assert (code, settings.host, settings.grpc_port) == (0, "0.0.0.0", 9000)


@pytest.mark.parametrize("spell", [str, lambda words: words.replace("_", "-")])
def test_both_spellings(serve, spell):
    words = [
        *("--rest_bind_address", "0.0.0.0", "--rest_port", "8001", "--model_repository_path", "/m"),
        *("--batch_size", "4", "--plugin_config", '{"ENABLE_MMAP": false}', "--cache_dir", "/c"),
        *("--mean", "1", "--scale", "2", "--color_format", "RGB", "--layout", "NCHW", "--shape", "(1,2)"),
        *("--log_level", "DEBUG", "--target_device", "CPU", "--model_version_policy", "all"),
    ]
    settings, code, said = serve(*(spell(word) if word.startswith("--") else word for word in words))
    assert not code
    assert (settings.host, settings.port, str(settings.model_repository)) == ("0.0.0.0", 8001, "/m")
    assert (settings.max_batch, settings.plugin_config) == (4, '{"ENABLE_MMAP": false}')
    assert (settings.cache_dir, settings.log_level) == ("/c", "debug")
    assert (settings.mean, settings.scale, settings.color_format) == ("1", "2", "RGB")
    assert (settings.layout, settings.shape, settings.model_version_policy) == ("NCHW", "(1,2)", "all")
    assert "max_batch 4" in said


@pytest.mark.parametrize(
    "words",
    [
        ("--nireq", "4", "--rest_workers", "8", "--metrics_enable"),
        ("--metrics_enable=true", "--idle_sequence_cleanup=false", "--allow_credentials"),
        ("--grpc_max_threads=4", "--grpc_memory_quota", "100", "--grpc_channel_arguments=a=1"),
        (
            *("--trace_path=/t", "--sequence_cleaner_poll_wait_minutes=5"),
            "--custom_node_resources_cleaner_interval_seconds=300",
        ),
        ("--max_sequence_number=500", "--allowed_local_media_path=/m", "--allowed_media_domains=all"),
    ],
)
def test_what_means_nothing_here_is_one_line_each(serve, words):
    settings, _, said = serve(*words)
    assert settings is not None
    lines = said.splitlines()
    assert len(lines) == 3
    assert all("is not used" in line for line in lines)


@pytest.mark.parametrize("option", ["--stateful", "--low_latency_transformation"])
def test_stateful_models_are_refused_unless_they_are_said_to_be_none(serve, option):
    for words in ((option,), (f"{option}=true",)):
        settings, code, said = serve(*words)
        assert (settings, code) == (None, 2)
        assert "stateful models are not served here" in said
    settings, _, said = serve(f"{option}=false")
    assert (settings is not None, said) == (True, "")


def test_config_json_is_read_and_a_settings_file_wins_over_it(serve, tmp_path):
    config, toml = tmp_path / "config.json", tmp_path / "s.toml"
    entry = {"name": "a", "base_path": "/a", "batch_size": 2, "mean": 3, "surprise": 1}
    config.write_text(json.dumps({"model_config_list": [{"config": entry}]}))
    toml.write_text('[models.a]\nmax_batch = 16\n[models.b]\ndecode = "exact"\n')
    settings, _, said = serve("--config_path", str(config), "--config", str(toml))
    assert settings.models["a"] == {"model_path": "/a", "max_batch": 16, "mean": "3"}
    assert settings.models["b"] == {"decode": "exact"}
    assert "unknown key 'surprise'" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model_path", "/m"], "model_name"),
        (["--model_name", "m", "--config_path", "c.json"], "leave one out"),
        (["--config_path", "none.json"], "none.json cannot be read"),
        (["--target_device", "GPU"], "CPU or AUTO"),
        (["--plugin_config", "x"], "JSON object"),
        (["--batch_size", "x"], "whole number or auto"),
        (["--rest_bind_address", "::", "--host", "1.2.3.4"], "--rest-bind-address ::"),
        (
            [
                "--rest_bind_address=0.0.0.0",
                "--grpc_bind_address=127.0.0.1",
                "--rest_port=8000",
                "--port=9000",
            ],
            "--rest-bind-address 0.0.0.0 and --grpc-bind-address 127.0.0.1 ask for different things",
        ),
        (["--model_version_policy", "newest"], "newest"),
        (["--rest_port", "x"], "whole number"),
        (["--metrics_enable=often"], "'often'"),
    ],
)
def test_what_cannot_be_is_refused(serve, words, named):
    settings, code, said = serve(*words)
    assert (settings, code) == (None, 2)
    assert named in said


def test_options_without_a_command_are_those_of_serve(serve):
    settings, _, said = serve("--model_name=resnet", "--rest_port", "8080", command=())
    assert (settings.model_name, settings.port, said) == ("resnet", 8080, "")
    settings, code, said = serve("--modle_name=resnet", command=())
    assert (settings, code, "No such option '--modle-name'" in said) == (None, 2, True)
    for own in ("--help", "-h", "--version"):
        assert serve(own, command=())[:2] == (None, 0)
    assert serve("resnet", command=())[:2] == (None, 2)
