"""A cascade in a directory, with files that stand for its CNN and its detector."""

from dataclasses import replace
from pathlib import Path

from cpuserve.video.cascade_file import (
    Cascade,
    CascadePromise,
    CnnRule,
    DifferenceRule,
    ReferenceModel,
)
from cpuserve.video.scale import Scale

PROMISE = CascadePromise(
    fn=0.01,
    fp=0.02,
    confidence=0.95,
    promised=True,
    fn_bound=0.0093,
    fp_bound=0.0182,
    positive_windows=320,
    negative_windows=164,
    false_negatives=0,
    false_positives=0,
    changes=41,
)
MODEL_SCALE = Scale(416, 416, "BGR", fit="fit_to_window", pad_value=114)
ROAD = Scale(100, 100, "GRAY", "area", (0.0, 0.5, 1.0, 1.0))
CASCADE = Cascade(
    query="car@lane",
    reference=ReferenceModel(
        "yolox_nano", 1, "5f" * 32, Scale(416, 416, "BGR", fit="fit_to_window", pad_value=114)
    ),
    promise=PROMISE,
    difference=DifferenceRule("global:10", 3.25, ROAD, "difference.npz"),
    specialised=CnnRule("f16", "specialised.xml", Scale(50, 50), 0.03, 0.91),
    regions={"lane": ((0.0, 0.6), (1.0, 0.6), (1.0, 1.0))},
    costs={"decode:all": 0.0007, "reference": 0.02, "difference:global:10": 1.2e-05},
)


def write_cascade(directory: Path, **changes) -> Cascade:
    """Write a cascade and its files."""
    for name in ("difference.npz", "specialised.xml", "specialised.bin"):
        (directory / name).write_bytes(name.encode())
    return replace(CASCADE, **changes).save(directory)
