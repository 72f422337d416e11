"""Compares answers and speed of models in f32, bf16 and int8, through the code that serves.

Run as ``python -m benchmarks.precisions --data DIR [--out FILE] [--page FILE.md]``. DIR has ``models``,
``images`` and ``expected.json``. Each model is converted as `cpuserve convert` does, quantised as `cpuserve
quantize` does, and answers the photos of ``expected.json`` in every precision; then all are timed by turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cpuserve.authoring.catalog import CatalogEntry, find, label_names
from cpuserve.authoring.convert import ConvertOrder, convert
from cpuserve.authoring.interleaved_timing import alternate, ratio
from cpuserve.authoring.labelled_pictures import read_pictures
from cpuserve.authoring.metrics import Areas
from cpuserve.authoring.nncf_quantizer import QuantizeOptions
from cpuserve.authoring.parity import compare
from cpuserve.authoring.quantize import QuantizeOrder, quantize
from cpuserve.authoring.source import read_source
from cpuserve.machine.budget import Budget
from cpuserve.measuring.load_window import busy_s, ours_s
from cpuserve.measuring.results import write_result
from cpuserve.models.card import Card
from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.request import Request
from cpuserve.settings import SETTINGS, load

__all__ = ["MODELS", "Model", "lines", "main", "measure"]

FLOAT = ("f32", "bf16")
INT8 = "int8"
_GUARD = ("metric", "max_drop", "accuracy_float", "accuracy", "validation_pictures")
_IN_FLIGHT = 4  # requests a thread, in one call that is timed: threads wait for each other only at its end


@dataclass(frozen=True)
class Model:
    """A model to compare.

    Attributes:
        name: in the catalogue.
        answers: the section of ``expected.json`` that says which photos are meant.
        metric: "top1" (the photos' names say what is right), "areas" or "agreement" (with f32).
        max_drop: by how much the metric may fall in int8.
    """

    name: str
    answers: str
    metric: str
    max_drop: float


MODELS = (
    Model("mobilenet_v2_1.0_224_frozen", "classify", "top1", 0.01),
    Model("deeplabv3_mnv2_dm05_257_frozen", "segment", "areas", 0.02),
    Model("vww_96_float", "vww", "agreement", 0.01),
)


def main() -> None:
    """Measure all models, print the tables and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--page", type=Path, help="Markdown with a place for the table")
    parser.add_argument("--rounds", type=int, default=9, help="windows of each figure")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one window")
    given = parser.parse_args()
    rows = []
    for model in MODELS:
        print(model.name, file=sys.stderr)  # noqa: T201  # minutes pass
        rows.append(measure(model, given.data, rounds=given.rounds, seconds=given.seconds))
    table = lines(rows)
    print("\n".join(table))  # noqa: T201
    if given.page:
        before, _, rest = given.page.read_text().partition("<!-- figures -->\n")
        after = rest.partition("<!-- end -->")[2]
        given.page.write_text("\n".join([before + "<!-- figures -->", *table, "<!-- end -->" + after]))
    if given.out:
        command = ["python", "-m", "benchmarks.precisions", *sys.argv[1:]]
        write_result(given.out, command, {"rounds": given.rounds, "seconds": given.seconds, "models": rows})


def measure(model: Model, data: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Convert, quantise, compare and time one model.

    Args:
        model: which.
        data: the test data.
        rounds: windows of each figure, the precisions by turns.
        seconds: of a window.

    Returns:
        The guard's figures, and by precision what it runs in, how the answers agree and how fast they come.
    """
    entry, threads = find(model.name), Budget.read().effective
    file, images = data / "models" / entry.source.file, data / "images"
    expected = json.loads((data / "expected.json").read_text())[model.answers][file.name]
    photos = [images / name for name in expected if (images / name).is_file()]
    settings = load({"decode": "exact", "max_batch": 1}, environ={})
    with tempfile.TemporaryDirectory() as folder:
        repository = Repository(Path(folder) / "models")
        card = replace(entry.card, labels=_labels(entry, data))
        order = ConvertOrder("float", card, parity=False)
        made, _ = convert(read_source(str(file), {}, ()), order, repository, settings, _nothing)
        listed = Path(folder) / "photos.csv"
        listed.write_text("\n".join(["file", *(str(photo.resolve()) for photo in photos)]) + "\n")
        validation = images if model.metric == "top1" else listed
        result = quantize(
            repository,
            made,
            settings,
            QuantizeOrder(INT8, listed, validation, model.metric, subset_size=len(photos)),
            QuantizeOptions(max_drop=model.max_drop, accuracy_control=False),
            say=_nothing,
        )
        files = dict.fromkeys(FLOAT, made)
        if result.published is not None:
            files[INT8] = result.published
        pipelines = {}
        for name, one in files.items():
            word = SETTINGS["precision"].parse("f32" if name == INT8 else name, name)
            asked = replace(settings, precision=word)
            pipelines[name] = load_pipeline(openvino_core(), one, asked, threads)
        answers = _answers(pipelines, photos, card)
        speed, foreign = _speed(pipelines, photos[0].read_bytes(), threads, rounds, seconds)
    guard = {key: result.report[key] for key in _GUARD} | {"published": result.published is not None}
    return {
        "model": file.name,
        "guard": guard,
        "photos": len(photos),
        "timed_photo": photos[0].name,
        "threads": threads,
        "precisions": {
            name: {"note": _note(name, pipeline), **answers[name], **speed[name]}
            for name, pipeline in pipelines.items()
        },
        "foreign_cores": foreign,
    }


def _labels(entry: CatalogEntry, data: Path) -> tuple[str, ...]:
    if isinstance(entry.labels, tuple):
        return entry.labels
    return label_names((data / "models" / entry.labels.file).read_text(encoding="utf-8"))


def _nothing(_: str) -> None:
    """What is done next is told to nobody."""


def _note(name: str, pipeline: Pipeline) -> str:
    """What it really runs in, where that is not what was asked for."""
    ways = pipeline.pictures
    found = "" if ways is None else ways.batcher.engine.read_back().get("INFERENCE_PRECISION_HINT", "")
    return "" if name in (INT8, found) else f"runs as {found} here"


def _answers(pipelines: Mapping[str, Pipeline], photos: Sequence[Path], card: Card) -> dict[str, Any]:
    """How the answers of each precision agree with those in f32, and how often they are right."""
    pictures = [photo.read_bytes() for photo in photos]
    outputs = {
        name: [pipeline.infer_pictures([picture], Request())[0] for picture in pictures]
        for name, pipeline in pipelines.items()
    }
    known = {sample.file: sample.classes for sample in read_pictures(photos[0].parent, card.labels)}
    found: dict[str, Any] = {}
    for name, mine in outputs.items():
        agreed = {
            key: value
            for key, value in asdict(compare(outputs["f32"], mine, card.model_type)).items()
            if value is not None and key != "pictures"
        }
        if card.model_type == "Segmentation":
            areas = Areas()
            for index, (before, after) in enumerate(zip(outputs["f32"], mine, strict=True)):
                areas.learn([before])
                agreed["least_areas"] = min(agreed.get("least_areas", 1.0), areas.keep([after], index))
        named = [
            int(output.argmax()) in classes
            for photo, output in zip(photos, mine, strict=True)
            if (classes := known.get(photo))
        ]
        if card.model_type == "Classification" and named:
            agreed |= {"top1": sum(named) / len(named), "top1_photos": len(named)}
        found[name] = agreed
    return found


def _speed(
    pipelines: Mapping[str, Pipeline], picture: bytes, threads: int, rounds: int, seconds: float
) -> tuple[dict[str, Any], float]:
    """Latency of one request at a time and pictures a second of one a thread, all precisions by turns."""
    inferring: dict[str, list[float]] = {name: [] for name in pipelines}
    count = threads * _IN_FLIGHT

    def alone(name: str) -> None:
        request = Request()
        pipelines[name].predict(picture, request)
        inferring[name].append(request.stages_ns["infer"] / 1e6)

    with ThreadPoolExecutor(threads) as clients:

        def together(name: str) -> None:
            list(clients.map(lambda _: pipelines[name].predict(picture, Request()), range(count)))

        calls: dict[str, Callable[[], object]] = {}
        for name in pipelines:
            calls[f"{name} alone"] = partial(alone, name)
            calls[f"{name} together"] = partial(together, name)
        before, began = busy_s() - ours_s(), time.perf_counter()
        times = alternate(calls, rounds=rounds, seconds=seconds)
        foreign = (busy_s() - ours_s() - before) / (time.perf_counter() - began)
    found = {}
    for name in pipelines:
        one, many = times[f"{name} alone"], times[f"{name} together"]
        found[name] = {
            "latency_ms": round(one.median_ms, 3),
            "latency_noise": round(one.noise, 3),
            "infer_ms": round(statistics.median(inferring[name]), 3),
            "pictures_s": round(1000 * count / many.median_ms, 1),
            "pictures_s_noise": round(many.noise, 3),
            "latency_times_faster": round(ratio(times["f32 alone"], one), 3),
            "throughput_times_higher": round(ratio(times["f32 together"], many), 3),
        }
    return found, round(foreign, 3)


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table for a page, in Markdown: a line a model and precision."""
    found = [
        "| | ms | noise | times faster | pictures/s | noise | times more | as in f32 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        guard, model = row["guard"], Path(row["model"]).stem
        for name, one in row["precisions"].items():
            unit = "pixels" if "pixel_agreement" in one else "best classes"
            same = one.get("pixel_agreement", one.get("top1_agreement"))
            said = f"{name} ({one['note']})" if one["note"] else name
            cells = [
                f"{model}, {said}",
                *(f"{one['latency_ms']:.2f}", f"{one['latency_noise']:.0%}"),
                f"{one['latency_times_faster']:.2f}",
                *(f"{one['pictures_s']:.1f}", f"{one['pictures_s_noise']:.0%}"),
                f"{one['throughput_times_higher']:.2f}",
                f"{same:.1%} of the {unit}",
            ]
            found.append(f"| {' | '.join(cells)} |")
        if not guard["published"]:
            lost = f"{guard['metric']} {guard['accuracy_float']:.4f} to {guard['accuracy']:.4f}"
            found.append(f"| {model}, int8: refused by the guard, {lost}" + " |" * 8)
    found.append("")
    for row in rows:
        guard = row["guard"]
        found.append(
            f"* {Path(row['model']).stem}: {guard['metric']} on {guard['validation_pictures']} pictures "
            f"{guard['accuracy_float']:.4f} in floats, {guard['accuracy']:.4f} in int8; "
            f"{guard['max_drop']:g} may be lost"
        )
    return found


if __name__ == "__main__":
    main()
