"""Make the digit model smaller in three ways and measure what each gives; the model that is served stays.

Run ``python ir_models/digits/compress.py --folder DIR``: trains the model as recipe.py does, then makes of it
and fine-tunes one with half of the channels (torch-pruning), one of depthwise and pointwise convolutions, and
one in int8 (NNCF). Their IRs and ``figures.json`` go to DIR; ``--measure-only`` takes them from there.
"""

from __future__ import annotations

import no_telemetry  # noqa: F401  # before OpenVINO and NNCF

from cpuserve.serving.openvino_core import openvino_core

# isort: split
import argparse
import copy
import importlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import psutil
import recipe
import torch
from torch import nn

from cpuserve.authoring.complexity import complexity
from cpuserve.measuring.results import write_result

PAGE = recipe.HERE.parents[1] / "docs" / "recipes.md"
SHIPPED, FLOOR = "as shipped", "front end alone"
BATCHES = {1: 200, 16: 30}  # inferences in a row, by batch size
ACCURACY = {
    "clean": "held_out_accuracy",
    "worst": "held_out_accuracy_worst_set",
    "augmented": "held_out_accuracy_augmented",
    "drawn": "drawn_accuracy",
}


class Whole(nn.Module):
    """A module round the network: NNCF keeps its hooks in a submodule, which nn.Sequential would run."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, crop: torch.Tensor) -> torch.Tensor:
        return self.net(crop)


def pruned(net: nn.Sequential, ratio: float = 0.5) -> nn.Sequential:
    """The network without the share ``ratio`` of each layer's channels, those of the least L2 norm.

    A channel goes with all that belongs to it: its batch normalisation and its column in the next layer.
    Numbers of channels are rounded to 8, which is what a vector register holds (Fang et al., DepGraph, 2023).
    """
    pruning = needed("torch_pruning", "prune")
    net = copy.deepcopy(net)
    pruner = pruning.pruner.BasePruner(
        net,
        torch.rand(1, 1, recipe.CROP, recipe.CROP),
        importance=pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        round_to=8,
        ignored_layers=[net[-1]],  # its outputs are the digits
    )
    pruner.step()
    return net


def separable(net: nn.Sequential) -> nn.Sequential:
    """The network with a depthwise and a pointwise convolution in the place of each full one.

    The weights to start from are the best of rank one for each input channel: the first singular vectors of
    its [outputs, k*k] weights (Guo et al., Network Decoupling, 2018). A convolution of one channel stays.
    """
    net = copy.deepcopy(net)
    for index, full in enumerate(net):
        if not isinstance(full, nn.Conv2d) or full.in_channels == 1:
            continue
        inputs, outputs, size = full.in_channels, full.out_channels, full.kernel_size
        depthwise = nn.Conv2d(inputs, inputs, size, padding=full.padding, groups=inputs, bias=False)
        pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        left, scale, right = torch.linalg.svd(full.weight.detach().transpose(0, 1).flatten(2))
        root = scale[:, :1].sqrt()
        with torch.no_grad():
            depthwise.weight.copy_((right[:, 0] * root).view(depthwise.weight.shape))
            pointwise.weight.copy_((left[:, :, 0] * root).T[..., None, None])
        net[index] = nn.Sequential(depthwise, pointwise)
    return net


def quantised(net: nn.Sequential, x: torch.Tensor) -> nn.Module:
    """The network with FakeQuantize before its layers, their ranges from 300 crops; trains like any other."""
    nncf = needed("nncf", "quantize")
    rows = [x[row : row + 1] for row in range(min(300, len(x)))]
    return nncf.quantize(
        Whole(copy.deepcopy(net)),
        nncf.Dataset(rows),
        subset_size=len(rows),
        target_device=nncf.TargetDevice.CPU,
    )


def needed(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}: pip install cpuserve[{extra}]") from error


def train(given: argparse.Namespace) -> dict[str, Any]:
    """Train, change, fine-tune and export every variant; figures of accuracy and size."""
    pruning, nncf = needed("torch_pruning", "prune"), needed("nncf", "quantize")
    began = time.perf_counter()
    torch.manual_seed(recipe.SEED)
    x, y = recipe.crops(given.samples)
    base = recipe.network()
    recipe.fit(base, x, y, given.epochs)
    ways: dict[str, tuple[Callable[[], nn.Module], float]] = {  # and the learning rate
        "trained on": (lambda: copy.deepcopy(base), 2e-3),  # what fine-tuning gives without any change
        "pruned": (lambda: pruned(base), 2e-3),
        "depthwise + pointwise": (lambda: separable(base), 2e-3),
        "int8": (lambda: quantised(base, x), 4e-4),
    }
    recipe.export(nn.Flatten(), place(FLOOR, given.folder))
    variants: dict[str, Any] = {
        SHIPPED: {"after": accuracy(ir(SHIPPED, given.folder), given.every)},
        FLOOR: {},
    }
    for name, (change, rate) in ways.items():
        print(name, flush=True)
        torch.manual_seed(recipe.SEED)
        net = change().eval()
        before = accuracy(recipe.export(net, given.folder / "before"), given.every)
        recipe.fit(net, x, y, given.fine_tuning_epochs, rate)
        after = accuracy(recipe.export(net, place(name, given.folder)), given.every)
        variants[name] = {"before": before, "after": after}
    return {
        "training_pictures": given.samples,
        "epochs": given.epochs,
        "fine_tuning_epochs": given.fine_tuning_epochs,
        "seed": recipe.SEED,
        "seconds": round(time.perf_counter() - began),
        "versions": {m.__name__: m.__version__ for m in (torch, nncf, pruning)}
        | {"openvino": ov.get_version().split("-")[0]},
        "variants": variants,
    }


def place(variant: str, folder: Path) -> Path:
    return recipe.HERE if variant == SHIPPED else folder / variant.replace(" + ", "-").replace(" ", "-")


def ir(variant: str, folder: Path) -> Path:
    return place(variant, folder) / "1" / "model.xml"


def accuracy(path: Path, every: int) -> dict[str, Any]:
    found = recipe.accuracy(path, every)
    return {word: found[key] for word, key in ACCURACY.items()} | {"sets": found["sets"]}


def content(path: Path) -> dict[str, Any]:
    """What is in the IR and in what the CPU plugin makes of it."""
    model = openvino_core().read_model(path)
    counted = complexity(model)
    nodes = openvino_core().compile_model(path, "CPU", recipe.OPTIONS).get_runtime_model().get_ops()
    facts = [{key: node.rt_info[key].astype(str) for key in ("layerType", "primitiveType")} for node in nodes]
    layers = [f for f in facts if f["layerType"] in {"Convolution", "FullyConnected"}]
    return {
        "parameters": counted.parameters,
        "multiply_adds": counted.multiply_adds,
        "bytes": recipe.size(path),
        "layers": len(layers),
        "int8_layers": sum(f["primitiveType"].lower().endswith("i8") for f in layers),
    }


def speed(irs: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Milliseconds a batch, one thread, the models by turns in a new order each round.

    Returns:
        By batch size and name ``ms`` (the median of the rounds, each the median of some inferences),
        ``noise`` (the middle half of the rounds, as a share of it), ``times_faster`` than the one shipped
        (median of the rounds' ratios) with its ``quartiles``; ``foreign_cores``: what other processes used.
    """
    rng = random.Random(recipe.SEED)  # noqa: S311  # an order, no secret
    images = recipe.test_sets()["augmented"][0][: max(BATCHES)].astype(np.float32)
    found: dict[str, Any] = {"threads": 1, "rounds": rounds}
    others, wall = busy_s(), time.perf_counter()
    for batch, count in BATCHES.items():
        requests = {name: request(path, batch) for name, path in irs.items()}
        times: dict[str, list[float]] = {name: [] for name in irs}
        for turn in range(rounds + 1):
            for name in rng.sample(list(irs), len(irs)):
                row = [timed(requests[name], images[:batch]) for _ in range(count)]
                if turn:  # the first round warms up
                    times[name].append(1000 * statistics.median(row))
        found[f"batch_{batch}"] = {name: summary(times[name], times[SHIPPED]) for name in irs}
    found["foreign_cores"] = round((busy_s() - others) / (time.perf_counter() - wall), 3)
    return found


def request(path: Path, batch: int) -> Any:
    model = openvino_core().read_model(path)
    model.reshape([batch, recipe.SIDE, recipe.SIDE, 3])
    return openvino_core().compile_model(model, "CPU", recipe.OPTIONS).create_infer_request()


def timed(one: Any, images: Any) -> float:
    began = time.perf_counter()
    one.infer([images])
    return time.perf_counter() - began


def summary(times: list[float], shipped: list[float]) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(times, n=4)
    ratios = statistics.quantiles([b / a for a, b in zip(times, shipped, strict=True)], n=4)
    return {
        "ms": round(middle, 4),
        "noise": round((high - low) / middle, 3),
        "times_faster": round(ratios[1], 3),
        "quartiles": [round(ratios[0], 3), round(ratios[2], 3)],
    }


def busy_s() -> float:
    """CPU seconds that all other processes of the machine have used."""
    times, mine = psutil.cpu_times(), os.times()
    busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    return float(busy - mine.user - mine.system)


def table(found: dict[str, Any]) -> list[str]:
    """The page's two tables, in Markdown."""
    variants, measured = found["variants"], found["speed"]
    lines = ["| | parameters | multiply-adds | bytes | int8 layers |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {v['parameters']:,} | {v['multiply_adds']:,} | {v['bytes']:,} "
        f"| {v['int8_layers']} of {v['layers']} |"
        for name, v in variants.items()
    ]
    lines += ["", "| right, % | clean | worst clean set | augmented | drawn |", "|---|---:|---:|---:|---:|"]
    for name, v in variants.items():
        stages = {"before": f"{name}, before fine-tuning", "after": name}
        lines += [
            f"| {title} | " + " | ".join(f"{v[stage][word]:.2f}" for word in ACCURACY) + " |"
            for stage, title in stages.items()
            if stage in v
        ]
    for batch in BATCHES:
        lines += ["", f"| batch {batch} | ms | noise | times faster | middle half of the rounds |"]
        lines += ["|---|---:|---:|---:|---:|"]
        lines += [
            f"| {name} | {s['ms']:.3f} | {s['noise']:.1%} | {s['times_faster']:.2f} "
            f"| {s['quartiles'][0]:.2f} to {s['quartiles'][1]:.2f} |"
            for name, s in measured[f"batch_{batch}"].items()
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the IRs and figures.json are kept")
    parser.add_argument("--measure-only", action="store_true", help="only the speed of what --folder holds")
    parser.add_argument("--samples", type=int, default=100_000, help="training pictures, in steps of 500")
    parser.add_argument("--epochs", type=int, default=6, help="of the model that is changed then")
    parser.add_argument("--fine-tuning-epochs", type=int, default=4)
    parser.add_argument("--every", type=int, default=1, help="test with each nth picture, for a trial")
    parser.add_argument("--rounds", type=int, default=30, help="of the measurement of speed")
    parser.add_argument("--out", type=Path, help="result file; the tables of --page follow it")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown with a place for the tables")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    # NNCF compiles its operators at first use; on a busy machine that takes longer than its own minute
    os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", "600")
    kept = given.folder / "figures.json"
    if given.measure_only and not kept.is_file():
        parser.error(f"{given.folder} has no figures.json: run without --measure-only first")
    if not given.measure_only:
        given.folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(train(given), indent=1) + "\n")
    found = json.loads(kept.read_text())
    irs = {name: ir(name, given.folder) for name in found["variants"]}
    for name, path in irs.items():
        found["variants"][name] = content(path) | found["variants"][name]
    found["speed"] = speed(irs, given.rounds)
    lines = table(found)
    print("\n".join(lines))
    if given.out:
        write_result(given.out, ["python", "compress.py", *sys.argv[1:]], found)
        before, _, rest = given.page.read_text().partition("<!-- figures -->\n")
        after = rest.partition("<!-- end -->")[2]
        given.page.write_text("\n".join([before + "<!-- figures -->", *lines, "<!-- end -->" + after]))


if __name__ == "__main__":
    main()
