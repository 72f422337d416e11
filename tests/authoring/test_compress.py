"""The recipes that make the digit model smaller do what they say; their figures are those of the page."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from cpuserve.serving.openvino_core import openvino_core

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "ir_models" / "digits"
F32 = {"INFERENCE_PRECISION_HINT": "f32"}
WORDS = ("clean", "worst", "augmented", "drawn")
SMALL = ["--samples", "500", "--epochs", "1", "--fine-tuning-epochs", "1", "--every", "13", "--rounds", "2"]


def python(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    # a process of its own: the recipes change what can be imported, and PyTorch warns of itself
    path = {"PYTHONPATH": str(FOLDER)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        cwd=ROOT,
        env={**(os.environ if env is None else env), **path},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, v in found["variants"].items():
        lines.append(
            f"| {name} | {v['parameters']:,} | {v['multiply_adds']:,} | {v['bytes']:,} "
            f"| {v['int8_layers']} of {v['layers']} |"
        )
        for stage, title in {"before": f"{name}, before fine-tuning", "after": name}.items():
            if stage in v:
                lines.append(f"| {title} | " + " | ".join(f"{v[stage][word]:.2f}" for word in WORDS) + " |")
    for batch in ("batch_1", "batch_16"):
        for name, s in found["speed"][batch].items():
            low, high = s["quartiles"]
            lines.append(
                f"| {name} | {s['ms']:.3f} | {s['noise']:.1%} | {s['times_faster']:.2f} "
                f"| {low:.2f} to {high:.2f} |"
            )
    return lines


def table_rows(page: str) -> list[str]:
    tables = page.partition("<!-- figures -->\n")[2].partition("<!-- end -->")[0]
    heads = ("|---", "| |", "| right", "| batch")
    return [line for line in tables.splitlines() if line and not line.startswith(heads)]


def test_tables_of_the_page_are_the_result_file() -> None:
    found = json.loads((ROOT / "docs" / "results" / "recipes.json").read_text())
    assert sorted(table_rows((ROOT / "docs" / "recipes.md").read_text())) == sorted(rows(found))


def test_result_is_of_a_long_run_on_the_sets_of_the_model() -> None:
    found = json.loads((ROOT / "docs" / "results" / "recipes.json").read_text())
    metrics = json.loads((FOLDER / "metrics.json").read_text())
    assert found["training_pictures"] >= 40_000
    assert found["epochs"] == metrics["epochs"]
    assert found["fine_tuning_epochs"] >= 2
    pictures = {name: of["pictures"] for name, of in metrics["sets"].items()}
    for name, variant in found["variants"].items():
        for stage in {"before", "after"} & variant.keys():
            sets = variant[stage]["sets"]
            assert {n: of["pictures"] for n, of in sets.items()} == pictures, (name, stage)
    assert found["variants"]["as shipped"]["after"]["sets"] == metrics["sets"]


def test_nothing_is_reported_over_the_network(tmp_path: Path) -> None:
    # what would report writes an identity to the home directory first
    start = "openvino.tools.ovc.telemetry_utils import init_ovc_telemetry"
    code = f"import no_telemetry, nncf\nfrom {start}\ninit_ovc_telemetry()"
    done = python("-c", code, env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The whole program with next to no training: its folder and its result."""
    folder = tmp_path_factory.mktemp("recipes")
    page, out = folder / "page.md", folder / "result.json"
    page.write_text("# Title\n<!-- figures -->\nold\n<!-- end -->\nThe end.\n")
    places = ["--folder", str(folder), "--out", str(out), "--page", str(page)]
    done = python(str(FOLDER / "compress.py"), *SMALL, *places)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(out.read_text())


def read(folder: Path, variant: str) -> ov.Model:
    model = openvino_core().read_model(folder / variant / "1" / "model.xml")
    answers = openvino_core().compile_model(model, "CPU", F32)(np.zeros((2, 96, 96, 3), np.float32))[0]
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-3)
    assert answers.shape == (2, 10)
    return model


def weights(model: ov.Model, kind: str) -> list[tuple[int, ...]]:
    return [tuple(n.input(1).get_shape()) for n in model.get_ordered_ops() if n.get_type_name() == kind]


def convolutions(channels: tuple[int, ...]) -> list[tuple[int, ...]]:
    pairs = itertools.pairwise(channels)
    return [(o, i, *((5, 5) if i == 1 else (3, 3))) for i, o in pairs]


@pytest.mark.frameworks
@pytest.mark.timeout(900)  # NNCF compiles its operators at first use
class TestTrial:
    def test_pruning_removes_half_of_the_channels(self, trial) -> None:
        folder, found = trial
        assert weights(read(folder, "trained-on"), "Convolution") == convolutions((1, 16, 32, 32, 64, 64))
        assert weights(read(folder, "pruned"), "Convolution") == convolutions((1, 8, 16, 16, 32, 32))
        full, cut = found["variants"]["trained on"], found["variants"]["pruned"]
        # weights, gamma and beta of five layers, and the last one
        gone = sum(o * i * h * w for o, i, h, w in convolutions((1, 16, 32, 32, 64, 64)))
        gone -= sum(o * i * h * w for o, i, h, w in convolutions((1, 8, 16, 16, 32, 32)))
        assert full["parameters"] - cut["parameters"] >= gone + 10 * 9 * 32
        assert cut["bytes"] < full["bytes"]

    def test_quantised_layers_are_compiled_to_int8(self, trial) -> None:
        folder, found = trial
        model = read(folder, "int8")
        kinds = Counter(node.get_type_name() for node in model.get_ops())
        assert kinds["FakeQuantize"] >= 6
        compiled = openvino_core().compile_model(model, "CPU", F32)
        layers = [
            node.rt_info["primitiveType"].astype(str)
            for node in compiled.get_runtime_model().get_ops()
            if node.rt_info["layerType"].astype(str) in {"Convolution", "FullyConnected"}
        ]
        assert len(layers) == 6
        assert all(name.lower().endswith("i8") for name in layers), layers
        variants = found["variants"]
        assert (variants["int8"]["int8_layers"], variants["trained on"]["int8_layers"]) == (6, 0)

    def test_depthwise_and_pointwise_save_the_multiply_adds_they_should(self, trial) -> None:
        folder, found = trial
        model = read(folder, "depthwise-pointwise")
        layers = [(16, 32, 14), (32, 32, 14), (32, 64, 7), (64, 64, 7)]  # inputs, outputs, side of the map
        assert weights(model, "GroupConvolution") == [(i, 1, 1, 3, 3) for i, _, _ in layers]
        assert weights(model, "Convolution")[1:] == [(o, i, 1, 1) for i, o, _ in layers]
        saved = sum((9 * i * o - 9 * i - i * o) * side**2 for i, o, side in layers)
        full, split = found["variants"]["trained on"], found["variants"]["depthwise + pointwise"]
        assert full["multiply_adds"] - split["multiply_adds"] == saved

    def test_page_has_the_figures_of_the_result_and_keeps_its_words(self, trial) -> None:
        folder, found = trial
        page = (folder / "page.md").read_text()
        assert sorted(table_rows(page)) == sorted(rows(found))
        assert page.startswith("# Title\n<!-- figures -->\n| |")
        assert page.endswith("|\n<!-- end -->\nThe end.\n")

    def test_speed_is_measured_again_without_training(self, trial) -> None:
        folder, found = trial
        out = folder / "again.json"
        places = ["--folder", str(folder), "--out", str(out), "--page", str(folder / "page.md")]
        done = python(str(FOLDER / "compress.py"), "--measure-only", "--rounds", "2", *places)
        assert done.returncode == 0, done.stderr
        again = json.loads(out.read_text())
        assert again["variants"] == found["variants"]
        assert again["speed"] != found["speed"]
        assert re.search(r"compress.py .*--measure-only", again["command"])
        assert "epoch" not in done.stdout


@pytest.mark.frameworks
def test_convolution_of_rank_one_is_split_without_loss() -> None:
    code = (
        "import no_telemetry, recipe, compress, torch\n"
        "torch.manual_seed(1)\n"
        "net = recipe.network().eval()\n"
        "with torch.no_grad():\n"
        "    for layer in net:\n"
        "        if isinstance(layer, torch.nn.Conv2d) and layer.in_channels > 1:\n"
        "            o, i = layer.weight.shape[:2]\n"
        "            layer.weight.copy_(torch.randn(o, i, 1, 1) / 10 * torch.randn(1, i, 3, 3))\n"
        "    crop = torch.rand(4, 1, 28, 28)\n"
        "    torch.testing.assert_close(compress.separable(net)(crop), net(crop), rtol=1e-3, atol=1e-4)\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.frameworks
def test_speed_of_a_folder_without_figures_is_refused(tmp_path: Path) -> None:
    done = python(str(FOLDER / "compress.py"), "--folder", str(tmp_path), "--measure-only")
    assert done.returncode == 2
    assert "has no figures.json: run without --measure-only first" in done.stderr


@pytest.mark.frameworks
@pytest.mark.parametrize(("module", "extra"), [("torch_pruning", "prune"), ("nncf", "quantize")])
def test_missing_library_is_named_with_its_extra(tmp_path: Path, module: str, extra: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; import compress; compress.main()"
    done = python("-c", code, "--folder", str(tmp_path))
    assert done.returncode == 1
    assert module in done.stderr
    assert f"pip install 'cpuserve[{extra}]'" in done.stderr
    assert not list(tmp_path.iterdir())
