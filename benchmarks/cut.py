"""Compares DeepLab cut into parts with the whole model on all photos, in f32.

Run as ``python -m benchmarks.cut --data DIR [--out FILE]``. DIR has ``models``, ``images`` and
``expected.json``, whose ``segment`` says which photos are meant.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
from rich.console import Console
from rich.table import Table

from cpuserve.authoring.cut import CutOrder, CutSource, cut
from cpuserve.authoring.parity import Array, Ids, class_map, compare
from cpuserve.machine.budget import Budget
from cpuserve.measuring.results import write_result
from cpuserve.models.cut_manifest import IR, CutPart
from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.request import Request
from cpuserve.settings import load

__all__ = ["INPUT", "OUTPUT", "iou", "main"]

FILES = ("deeplabv3_mnv2_dm05_257_frozen.pb", "deeplabv3_mnv2_pascal_513_frozen.pb")
INPUT, OUTPUT = "0:MobilenetV2/Conv/Conv2D", "ArgMax"  # model optimizer's words, of 2019
BIRD, PHOTO, MASK = 3, "bird_segmentation.bmp", "bird_segmentation_mask.bmp"


def main() -> None:
    """Cut both graphs, answer all photos with cut and whole, print or write what they agree in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    expected = json.loads((given.data / "expected.json").read_text())["segment"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            photos = [
                given.data / "images" / name for name, areas in expected[file].items() if type(areas) is dict
            ]
            rows.append(_compare(given.data / "models" / file, photos, Repository(Path(folder))))
    table = Table("graph", "photos", "pixel agreement", "mean IoU", "bird IoU, whole", "bird IoU, cut")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    if given.out:
        command = ["python", "-m", "benchmarks.cut", *sys.argv[1:]]
        cut_at = {"input": INPUT, "output": OUTPUT, "precision": "f32"}
        write_result(given.out, command, {"cut": cut_at, "models": rows})


def iou(ids: Ids, mask: Array, label: int) -> float:
    """Intersection over union of one class.

    Args:
        ids: class of each pixel, [H, W].
        mask: the right classes, of any size: the answer is brought to it by its nearest pixel.
        label: the class.
    """
    found = cv2.resize(ids.astype(np.uint8), mask.shape[::-1], interpolation=cv2.INTER_NEAREST) == label
    right = mask == label
    return float((found & right).sum() / (found | right).sum())


def _compare(file: Path, photos: Sequence[Path], repository: Repository) -> dict[str, Any]:
    threads = Budget.read().effective
    settings = load({"precision": "f32", "decode": "exact", "max_batch": 1}, environ={})
    whole = CutSource.find(str(file), repository)
    whole.write_metadata(whole.model)
    with repository.publish("whole", None) as folder:
        ov.save_model(whole.model, folder / "model.xml", compress_to_fp16=False)
    order = CutOrder("cut", (INPUT,), (OUTPUT,), CutPart(IR), CutPart(IR))
    cut(whole, order, repository, settings, threads)
    answers = []
    for name in ("whole", "cut"):
        pipeline = load_pipeline(openvino_core(), repository.find(name), settings, threads)
        answers.append([pipeline.infer_pictures([photo.read_bytes()], Request())[0] for photo in photos])
    agreement = compare(answers[0], answers[1], "Segmentation")
    bird = [photo.name for photo in photos].index(PHOTO)
    mask = cv2.imread(str(photos[bird].with_name(MASK)), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise SystemExit(f"no mask {MASK} beside {photos[bird]}")
    ratios = [round(iou(class_map(found[bird]), mask, BIRD), 4) for found in answers]
    return {
        "model": file.name,
        "photos": agreement.pictures,
        "pixel_agreement": agreement.pixel_agreement,
        "mean_iou": agreement.mean_iou,
        "bird_iou_whole": ratios[0],
        "bird_iou_cut": ratios[1],
    }


if __name__ == "__main__":
    main()
