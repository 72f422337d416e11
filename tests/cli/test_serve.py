"""`cpuserve serve`: the words of other launchers mean what they mean there, and contradictions are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cpuserve.cli import cli
from cpuserve.settings import SETTINGS, Group
from tests.conftest import ROOT


@pytest.fixture
def settings_of(serve, monkeypatch):
    """Call with words; gives the settings the server was made with, or exit code and stderr."""
    monkeypatch.setenv("CPUSERVE_PRESET", "off")

    def call(*words):
        settings, *refused = serve(*words)
        return settings or tuple(refused)

    return call


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--ninstances", "3"], {"workers": 3}),
        (["--ninstances", "3", "--workers", "3"], {"workers": 3}),
        (["--ncores-per-instance", "2", "--ninstances", "4"], {"workers": 4, "cores_per_worker": 2}),
        (["--latency-mode"], {"mode": "latency"}),
        (["--throughput-mode", "--mode", "throughput"], {"mode": "throughput"}),
        (["--mode", "auto", "--workers", "2"], {"mode": None, "workers": 2}),
        (["--latency-mode", "--workers", "auto"], {"mode": "latency", "workers": None}),
        (["--node-id", "1,0,1"], {"node_id": (0, 1)}),
        (["--use-logical-core"], {"use_logical_core": True}),
        (["--no-use-logical-core"], {"use_logical_core": False}),
        ([], {"workers": None, "mode": None, "node_id": None, "use_logical_core": False}),
    ],
)
def test_words_become_settings(settings_of, words, expected):
    settings = settings_of(*words)
    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--ninstances", "3", "--workers", "2"], ["--workers 2", "--ninstances 3"]),
        (["--workers", "auto", "--ninstances", "3"], ["--workers auto", "--ninstances 3"]),
        (
            ["--ncores-per-instance", "3", "--cores-per-worker", "2"],
            ["--cores-per-worker 2", "--ncores-per-instance 3"],
        ),
        (["--latency-mode", "--throughput-mode"], ["--latency-mode", "--throughput-mode"]),
        (["--mode", "latency", "--throughput-mode"], ["--mode latency", "--throughput-mode"]),
        (["--latency-mode", "--ninstances", "2"], ["--latency-mode", "--ninstances 2"]),
        (["--throughput-mode", "--cores-per-worker", "2"], ["--throughput-mode", "--cores-per-worker 2"]),
        (["--node-id", "0,x"], ["--node-id", "commas"]),
        (["--node-id=-1"], ["--node-id", "at least 0"]),
        (["--ninstances", "0"], ["workers", "at least 1"]),
        (["--port", "80000"], ["--port", "at most 65535", "80000"]),
        (["--grpc-port", "65536"], ["--grpc-port", "at most 65535", "65536"]),
    ],
)
def test_contradicting_and_wrong_words_are_refused_by_name(settings_of, words, named):
    code, said = settings_of(*words)
    assert code == 2
    assert all(name in said for name in named), said


def test_the_environment_is_no_contradiction_the_command_line_wins(settings_of, monkeypatch):
    monkeypatch.setenv("CPUSERVE_WORKERS", "5")
    monkeypatch.setenv("CPUSERVE_USE_LOGICAL_CORE", "true")
    settings = settings_of("--ninstances", "2")
    assert (settings.workers, settings.use_logical_core) == (2, True)


def test_a_file_may_say_them_too(settings_of, tmp_path: Path):
    file = tmp_path / "s.toml"
    file.write_text('node_id = [2, 0]\nuse_logical_core = true\nmode = "throughput"\n')
    settings = settings_of("--config", str(file))
    assert (settings.node_id, settings.use_logical_core, settings.mode) == ((0, 2), True, "throughput")
    file.write_text("node_id = 1\nuse_logical_core = 3\n")
    code, said = settings_of("--config", str(file))
    assert code == 2
    assert "true or false" in said


def test_the_former_flag_works_and_names_the_new_one(serve):
    settings, _, said = serve("--profile", "off")
    assert settings.preset == "off"
    assert said == "cpuserve: note: --profile is called --preset now and goes in version 0.2\n"
    settings, code, said = serve("--profile", "off", "--preset", "auto")
    assert (settings, code) == (None, 2)
    assert "--profile is the former name of --preset: leave it out" in said


def test_help_shows_each_setting_once_and_in_its_section():
    text = CliRunner().invoke(cli, ["serve", "--help"], terminal_width=300).stdout
    _, *sections = re.split(r"^([A-Z].*):$", text, flags=re.MULTILINE)
    shown = {
        title: re.findall(r"^  (--\S+)", rows, re.MULTILINE)
        for title, rows in zip(sections[::2], sections[1::2], strict=True)
    }
    assert "--profile " not in text
    for group in Group:
        assert shown[group] == [one.flag for one in SETTINGS.values() if one.group == group]
    assert "--ninstances" in shown["Other names"]
    assert {"--rest-port", "--grpc-workers", "--target-device"} < set(shown["OpenVINO Model Server's names"])


def test_docs_show_each_setting_once_and_in_its_section():
    _, *sections = re.split(r"^## (.+)$", (ROOT / "docs" / "settings.md").read_text(), flags=re.MULTILINE)
    shown = {
        title: re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)
        for title, rows in zip(sections[::2], sections[1::2], strict=True)
    }
    expected = {group: [one.name for one in SETTINGS.values() if one.group == group] for group in Group}
    assert shown == expected
