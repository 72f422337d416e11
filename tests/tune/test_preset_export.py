"""A preset in the words of other programs, read back by those that are here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from cpuserve.errors import UsageError
from cpuserve.models.ovms_config import read_ovms_config
from cpuserve.settings import load
from cpuserve.tune.preset import Preset
from cpuserve.tune.preset_export import FORMATS, export_preset
from tests.conftest import ROOT
from tests.tune import made_presets as made

FACTS = {
    "workers": 2,
    "properties": {
        "m": {
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": "1",
            "INFERENCE_PRECISION_HINT": "bf16",
            "ENABLE_CPU_PINNING": "False",
            "batches": "[1, 2, 4]",
        }
    },
}


@pytest.fixture
def preset():
    knobs = {"workers": 2, "threads": 3, "max_batch": 4, "use_logical_core": True, "env.OMP_NUM_THREADS": 1}
    return Preset.of_trials("m", made.key(), made.trial(facts=FACTS, **knobs))


def test_env_is_read_as_the_same_settings(preset):
    lines = [line for line in export_preset(preset, "env").splitlines() if not line.startswith("#")]
    environ = dict(line.split("=", 1) for line in lines)
    settings = load({}, environ=environ)
    assert (settings.workers, settings.threads, settings.max_batch) == (2, 3, 4)
    assert settings.use_logical_core is True
    assert environ["OMP_NUM_THREADS"] == "1"


def test_ovms_reads_its_config(preset, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(export_preset(preset, "ovms"))
    (entry,) = json.loads(file.read_text())["model_config_list"]
    assert entry["config"]["nireq"] == 2
    assert entry["config"]["plugin_config"] == {
        "NUM_STREAMS": "2",
        "INFERENCE_NUM_THREADS": "2",
        "INFERENCE_PRECISION_HINT": "bf16",
        "ENABLE_CPU_PINNING": "true",
    }
    assert set(read_ovms_config(file).models) == {"m"}


def test_triton_has_an_instance_a_stream(preset):
    text = export_preset(preset, "triton")
    assert 'backend: "openvino"' in text
    assert "max_batch_size: 4" in text
    assert "count: 2 kind: KIND_CPU" in text
    assert 'key: "NUM_STREAMS" value: { string_value: "2" }' in text
    assert 'key: "HINT_BF16" value: { string_value: "YES" }' in text
    assert "HINT_BF16" not in export_preset(
        replace(preset, properties={**preset.properties, "INFERENCE_PRECISION_HINT": "f32"}), "triton"
    )


def test_benchmark_app_has_it_in_force(preset, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(
        export_preset(
            replace(preset, properties={**preset.properties, "INFERENCE_PRECISION_HINT": "f32"}),
            "benchmark_app",
        )
    )
    words = ["-m", str(ROOT / "ir_models/digits/1/model.xml"), "-load_config", str(file)]
    words += ["-niter", "4", "-data_shape", "[1,96,96,3]", "-hint", "none"]
    code = "import sys; from openvino.tools.benchmark.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "NUM_STREAMS: 2",
        "INFERENCE_NUM_THREADS: 2",
        "ENABLE_CPU_PINNING: True",
        "2 inference requests",
    ):
        assert line in done.stdout


def test_what_there_is_not_is_named(preset):
    with pytest.raises(UsageError, match="env, ovms, triton, benchmark_app"):
        export_preset(preset, "xml")
    bare = made.preset(workers=2)
    assert "CPUSERVE_WORKERS=2" in export_preset(bare, "env")
    for name in FORMATS.keys() - {"env"}:
        with pytest.raises(UsageError, match="does not say what OpenVINO had in force"):
            export_preset(bare, name)
