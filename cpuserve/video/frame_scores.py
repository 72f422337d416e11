"""Learns detectors, packet feature and specialised networks from labelled frames, and scores every frame."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cpuserve.serving.engine import Array
from cpuserve.video.background_network import BACKGROUND, train_background
from cpuserve.video.cnn_learner import Trainer
from cpuserve.video.cnn_process import train_apart
from cpuserve.video.detector_training import empty_picture, train_detectors
from cpuserve.video.packet_features import PacketFeature, fit_packets, packet_sizes
from cpuserve.video.score_table import PARTS, ScoreTable
from cpuserve.video.specialised_cnn import SpecialisedCnn
from cpuserve.video.specialised_training import CnnSize, check_both_classes, write_ir
from cpuserve.video.training_clip import Progress
from cpuserve.video.training_files import Learnt, TrainingFacts

__all__ = ["OwnCnn", "PacketColumns", "Scoring", "area_under_curve", "score_frames"]

_TELLING = 0.6  # area under the curve from which on packet sizes are worth a try
_BATCH = 256
_MEASURED = 64

PacketColumns = tuple[Array, Array]
"""Sizes of all packets of a video and which are keyframes, [frames]."""


@dataclass(frozen=True)
class OwnCnn:
    """A specialised network of the user's own.

    Attributes:
        path: of its IR.
        pictures: u8 [n, h, w, c] of its scale, a row a frame.
    """

    path: Path
    pictures: Array


@dataclass(frozen=True)
class Scoring:
    """How frames are scored.

    Attributes:
        sizes: of the networks that are trained.
        seed: of their training.
        own: networks of the user's own.
        trainer: who trains the others.
    """

    sizes: Sequence[CnnSize]
    seed: int = 0
    own: Sequence[OwnCnn] = field(default_factory=tuple)
    trainer: Trainer = "numpy"


def score_frames(
    facts: TrainingFacts,
    table: ScoreTable,
    pictures: Array,
    packets: Sequence[PacketColumns | None],
    scoring: Scoring,
    scratch: Path,
    *,
    report: Progress,
) -> Learnt:
    """Learns on the part ``train`` and scores all frames.

    Args:
        facts: on what is learnt.
        table: labels, parts, and the costs of decoding, scaling and the reference.
        pictures: u8 [n, h, w, 3], a row a frame.
        packets: of each video; None where it is not there any more.
        scoring: networks to train, and those that there are.
        scratch: directory for the networks.
        report: of progress.

    Raises:
        UsageError: there are too few training frames of a class.
    """
    train = table.part == PARTS.index("train")
    check_both_classes(table.label[train], len(table) / table.frame_rate / 60)
    detectors = train_detectors(pictures, table, report=lambda *done: report("differences", *done))
    notes, costs = list(detectors.notes), dict(table.costs)
    costs |= {f"difference:{name}": cost for name, cost in detectors.costs.items()}
    cnns: dict[str, Path] = {}
    scores: dict[str, Array] = {}
    for size in scoring.sizes:
        path = scratch / f"{size.name}.xml"
        trained = train_apart(
            pictures[train],
            table.label[train],
            size,
            seed=scoring.seed,
            trainer=scoring.trainer,
            report=_labelled(report, f"network {size.name}, epochs"),
        )
        write_ir(trained.network, path)
        cnns[size.name] = path
    path = scratch / f"{BACKGROUND}.xml"
    empty = empty_picture(pictures, table)
    train_background(pictures[train], table.label[train], empty, facts.query.region, path)
    cnns[BACKGROUND] = path
    for path, own in [*((path, pictures) for path in cnns.values()), *_own(scoring)]:
        network = SpecialisedCnn(path)
        cnns[network.name] = path
        scores[network.name] = _scores(network, own, _labelled(report, f"network {network.name}, frames"))
        costs[f"specialised:{network.name}"] = _cost(network, own)
    feature, column = _packets(table, packets, costs, notes)
    filled = dataclasses.replace(
        table,
        differences=detectors.columns,
        specialised=scores,
        packets=column,
        costs=costs,
        notes=(*table.notes, *notes),
    )
    return Learnt(facts, filled, pictures, detectors.detectors, feature, cnns)


def area_under_curve(scores: Array, labels: Array) -> float:
    """How often a frame with the object has a higher score than one without it, 0 to 1; NaN of one class."""
    positives = int(labels.sum())
    if not 0 < positives < len(labels):
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    above = ranks[labels].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(labels) - positives)))


def _own(scoring: Scoring) -> list[tuple[Path, Array]]:
    return [(own.path, own.pictures) for own in scoring.own]


def _labelled(report: Progress, label: str) -> Callable[[int, int], None]:
    return lambda done, total: report(label, done, total)


def _scores(network: SpecialisedCnn, pictures: Array, report: Callable[[int, int], None]) -> Array:
    found = np.empty(len(pictures), np.float32)
    for start in range(0, len(pictures), _BATCH):
        found[start : start + _BATCH] = network.predict(pictures[start : start + _BATCH])
        report(min(start + _BATCH, len(pictures)), len(pictures))
    return found


def _cost(network: SpecialisedCnn, pictures: Array) -> float:
    """CPU seconds a frame, one at a time as the cascade asks."""
    rows = range(0, len(pictures), max(1, len(pictures) // _MEASURED))
    network.predict(pictures[:1])  # warm
    began = time.process_time()
    for row in rows:
        network.predict(pictures[row : row + 1])
    return (time.process_time() - began) / len(rows)


def _packets(
    table: ScoreTable, packets: Sequence[PacketColumns | None], costs: dict[str, float], notes: list[str]
) -> tuple[PacketFeature | None, Array | None]:
    """The packet feature and its column, if it tells anything on frames it was not learnt from."""
    known = [columns for columns in packets if columns is not None]
    if len(known) < len(packets):
        notes.append("packet sizes are not used: a training video is not there any more")
        return None, None
    began = time.thread_time()
    by_video = [packet_sizes(*columns) for columns in known]
    costs["packets"] = (time.thread_time() - began) / max(1, sum(len(sizes) for sizes in by_video))
    sizes = np.empty((len(table), by_video[0].shape[1]))
    for place, columns in enumerate(by_video):
        own = table.video == place
        sizes[own] = columns[np.minimum(table.number[own], len(columns) - 1)]
    train, choose = (table.part == PARTS.index(name) for name in ("train", "choose"))
    feature = fit_packets(sizes[train], table.label[train])
    column = feature.weights.probability(sizes).astype(np.float32)
    area = area_under_curve(column[choose], table.label[choose])
    if not area >= _TELLING:
        notes.append(
            f"packet sizes have no effect: they tell frames with the object from others with an area under "
            f"the curve of {area:.2f} on frames they were not learnt from, and {_TELLING} is the least"
        )
        return None, None
    return feature, column
