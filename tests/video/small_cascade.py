"""A cascade that needs no training: a network of one layer, a detector, a reference that sees brightness."""

from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from cpuserve.video.cascade_choice import Choice
from cpuserve.video.cascade_file import (
    Cascade,
    CnnRule,
    DifferenceRule,
    FrameSampling,
    PacketThresholds,
    ReferenceModel,
)
from cpuserve.video.decoding import frames
from cpuserve.video.difference import DifferenceDetector, make_detector
from cpuserve.video.packet_features import PacketFeature, fit_packets
from cpuserve.video.query import Query
from cpuserve.video.scale import Scale
from cpuserve.video.score_table import ScoreTable, difference_column
from cpuserve.video.specialised_cnn import CNN_SCALE, SpecialisedCnn, set_scale
from cpuserve.video.video_file import probe
from tests.video.made_cascade import PROMISE

QUERY = Query.parse("car")
MODEL_SCALE = Scale(32, 24)


class BrightReference:
    """Says that a car is there where the middle of the picture is bright enough."""

    name, version, checksum, scale = "bright", "1", "ab" * 32, MODEL_SCALE

    def __init__(self, limit=100.0):
        self.limit = limit
        self.asked = 0

    def submit(self, pixels, width, height):
        self.asked += 1
        brightness = float(pixels[12:, 8:24].mean())
        found = {"label": "car", "probability": 0.9, "box": [0, 0, width, height]}
        answer = Future()
        answer.set_result({"detections": [found] if brightness > self.limit else []})
        return answer

    def submit_seen(self, pixels, width, height):
        raise AssertionError("the query has no region")

    def close(self):
        """Nothing to do."""


def write_network(path: Path, limit: float, slope: float = 0.5) -> None:
    """A network that is surer the brighter the lower half is."""
    pixels = op.parameter([-1, *(CNN_SCALE.height, CNN_SCALE.width, 3)], np.uint8)
    lower = op.slice(op.convert(pixels, "f32"), [25], [50], [1], [1])
    mean = op.reduce_mean(lower, [1, 2, 3], keep_dims=False)
    score = op.sigmoid(op.multiply(op.subtract(mean, np.float32(limit)), np.float32(slope)))
    model = ov.Model([op.reshape(score, [-1, 1], special_zero=False)], [pixels])
    set_scale(model, CNN_SCALE)
    ov.save_model(model, path, compress_to_fp16=False)


def write_small_cascade(directory: Path, choice: Choice, limit: float = 100.0) -> Cascade:
    """Write a cascade of the parts and thresholds of a choice."""
    parts: dict[str, Any] = {}
    if choice.detector:
        make_detector(choice.detector, {"half_life": np.array(50.0)}).save(directory / "difference.npz")
        parts["difference"] = DifferenceRule(
            choice.detector, choice.delta, DifferenceDetector.scale, "difference.npz"
        )
    if choice.packets:
        rows = np.random.default_rng(3).normal(8, 2, (400, 4))
        fit_packets(rows, rows[:, 0] > 8).save(directory / "packets.npz")
        parts["packets"] = PacketThresholds("packets.npz", choice.packets.low, choice.packets.high)
    if choice.cnn:
        write_network(directory / "specialised.xml", limit)
        parts["specialised"] = CnnRule(
            *(choice.cnn, "specialised.xml", CNN_SCALE, choice.c_low, choice.c_high, choice.c_half)
        )
    return Cascade(
        query="car",
        reference=ReferenceModel("bright", 1, BrightReference.checksum, MODEL_SCALE),
        promise=replace(PROMISE, fn=0.05, fp=0.05),
        sampling=FrameSampling(choice.every, choice.which, choice.looks, choice.most_asked),
        **parts,
    ).save(directory)


@cache
def scaled_frames(path: Path) -> tuple[dict[Scale, np.ndarray], frozenset[int]]:
    """All frames of a clip at each scale, u8 [N, H, W, C], and the numbers of those that others need."""
    scales = (MODEL_SCALE, DifferenceDetector.scale, CNN_SCALE)
    found = [[frame.scaled(scale).copy() for scale in scales] for frame in frames(path)]
    needed = frozenset(frame.number for frame in frames(path, which="nonref"))
    return dict(zip(scales, map(np.array, zip(*found, strict=True)), strict=True)), needed


def score_table(path: Path, directory: Path, choice: Choice, reference: BrightReference) -> ScoreTable:
    """The scores of every frame of a clip, computed one frame after the other."""
    video = probe(path)
    pictures, others = scaled_frames(path)
    n = len(pictures[reference.scale])
    first = np.zeros(n, bool)
    first[[segment.start for segment in video.segments]] = True
    needed = np.isin(np.arange(n), [*others])
    table = ScoreTable(
        number=np.arange(n),
        time_s=np.array([video.time_s(int(pts)) for pts in video.pts[:n]]),
        packet_bytes=video.packet_bytes[:n],
        key=video.key[:n],
        label=np.zeros(n, bool),
        reference_score=np.zeros(n, np.float32),
        labelled=np.ones(n, bool),
        disposable=~needed,
        first=first,
        video=np.zeros(n, np.int16),
        part=np.zeros(n, np.uint8),
        differences={},
        specialised={},
    )
    looked = table.looked_at(choice.every, choice.which)
    difference, special = np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32)
    detector = DifferenceDetector.load(directory / "difference.npz") if choice.detector else None
    network = SpecialisedCnn(directory / "specialised.xml") if choice.cnn else None
    for at in range(n):
        answer = reference.submit(pictures[reference.scale][at], video.width, video.height).result()
        table.label[at], table.reference_score[at] = QUERY.present(answer, video.width, video.height)
        if first[at] and detector:
            detector.reset()
        if looked[at] and detector:
            difference[at] = detector.step(at, pictures[detector.scale][at]).value
        if network:
            special[at] = network.predict(pictures[network.scale][at][None])[0]
    packets = None
    if choice.packets:
        feature = PacketFeature.load(directory / "packets.npz")
        packets = feature.probability(video.packet_bytes, video.key)[:n]
    column = difference_column(choice.detector, choice.every, choice.which) if choice.detector else None
    return replace(
        table,
        differences={column: difference} if column else {},
        packets=packets,
        specialised={choice.cnn: special} if choice.cnn else {},
    )
