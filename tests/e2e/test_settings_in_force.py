"""A running server publishes the settings in force, and files that change later make no difference."""

from __future__ import annotations

from pathlib import Path

from cpuserve.serving.find_servers import find_servers
from tests.servers import serving

ROOT = Path(__file__).resolve().parent.parent.parent


def test_settings_are_those_of_the_start(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("max_batch = 2\nthreads = 3\n[models.digits]\ndecode = 'exact'\n")
    flags = ("--model-repository", str(ROOT / "ir_models"), "--ninstances", "1", "--config", str(file))
    with serving(tmp_path / "log", *flags, CPUSERVE_THREADS="1") as running:
        file.write_text("max_batch = 4\n")
        (found,) = (one for one in find_servers() if one.pid == running.process.pid)
        settings = found.settings
        assert (settings.port, settings.workers, settings.threads) == (running.port, 1, 1)
        assert settings.max_batch == 2
        assert settings.for_model("digits", {}).decode == "exact"
        assert settings.origin["threads"] == "CPUSERVE_THREADS"
        assert settings.model_repository == ROOT / "ir_models"
        assert running.stop() == 0
