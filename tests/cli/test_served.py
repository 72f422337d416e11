"""The settings of a running server, from what the kernel keeps of how it was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpuserve.cli.served import served_settings
from cpuserve.errors import CpuserveError


def tree(root, words, *, cwd, **environ):
    folder = root / "proc/7"
    folder.mkdir(parents=True)
    (folder / "cmdline").write_text("\0".join(words) + "\0")
    (folder / "environ").write_text("\0".join(f"{name}={value}" for name, value in environ.items()))
    (folder / "cwd").symlink_to(cwd)
    return root


def test_words_variables_and_a_settings_file_count_as_for_the_server(tmp_path):
    (tmp_path / "s.toml").write_text("max_batch = 2\nthreads = 3\n")
    words = ["python", "-m", "cpuserve", "serve", "--decode", "exact", "--ninstances", "2"]
    root = tree(tmp_path, words, cwd=tmp_path, CPUSERVE_CONFIG="s.toml", CPUSERVE_THREADS="4")
    found = served_settings(7, root)
    assert (found.decode, found.workers, found.max_batch, found.threads) == ("exact", 2, 2, 4)
    assert found.model_repository == tmp_path / "ir_models"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sleep", "1"], "not started by cpuserve serve"),
        (["cpuserve", "serve", "--colour", "red"], "not understood"),
    ],
)
def test_another_program_is_refused(tmp_path, words, said):
    with pytest.raises(CpuserveError, match=said):
        served_settings(7, tree(tmp_path, words, cwd=tmp_path))


def test_a_process_that_may_not_be_looked_into_is_said():
    with pytest.raises(CpuserveError, match="cannot be read"):
        served_settings(1 << 22, Path("/"))
