"""Real models in a repository of their own, pulled as a user pulls them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.servers import Server, serving

MODELS = {
    "mobilenet_v2_1.0_224_quant": "mobilenet_v2_1.0_224_quant.tflite",
    "mobilenet_v2_1.0_224_frozen": "mobilenet_v2_1.0_224_frozen.pb",
    "deeplabv3_257_mv_gpu": "deeplabv3_257_mv_gpu.tflite",
    "deeplabv3_mnv2_pascal_quant": "deeplabv3_mnv2_pascal_quant.tflite",
    "vww_96_int8": "vww_96_int8.tflite",
}
CLASSIFIERS = ("mobilenet_v2_1.0_224_quant", "mobilenet_v2_1.0_224_frozen")
# These servers are there until the last test, and nobody changes what they serve.
_NO_POLL = ("--file-system-poll-wait-seconds", "0")


@pytest.fixture(scope="session")
def repository(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with real models."""
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(
        [
            *(sys.executable, "-m", "cpuserve", "pull", *MODELS),
            *("--mirror", str(data_dir / "models"), "--model-repository", str(root), "--quiet"),
        ],
        check=True,
    )
    return root


@pytest.fixture(scope="session")
def one_model(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one real model, for servers that must start quickly."""
    root = tmp_path_factory.mktemp("one")
    name = "mobilenet_v2_1.0_224_frozen"
    shutil.copytree(repository / name, root / name)
    return root


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the model that comes along only: a server of it starts at once."""
    root = tmp_path_factory.mktemp("digits")
    shutil.copytree(ROOT / "ir_models" / "digits", root / "digits")
    return root


@pytest.fixture(scope="session")
def exact_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers that answer as the expected answers were made: every pixel, f32."""
    log = tmp_path_factory.mktemp("exact") / "log"
    arguments = ("--model-repository", str(repository), "--workers", "2", "--decode", "exact")
    with serving(log, *arguments, *_NO_POLL, "--precision", "f32", ready=2) as server:
        yield server


@pytest.fixture(scope="session")
def fast_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the classifiers as it starts without a word about decoding, precision or workers."""
    root = tmp_path_factory.mktemp("fast")
    for name in CLASSIFIERS:
        (root / "models").mkdir(exist_ok=True)
        (root / "models" / name).symlink_to(repository / name)
    with serving(root / "log", "--model-repository", str(root / "models"), *_NO_POLL) as server:
        yield server
