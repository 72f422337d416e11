"""Score tables made up from runs of labels, with scores that tell most of them apart."""

from __future__ import annotations

import numpy as np

from cpuserve.video.score_table import ScoreTable, difference_column

COSTS = {
    "decode:all": 0.0008,
    "decode:nonref": 0.0005,
    "decode:nonkey": 0.0002,
    "scale": 0.0002,
    "packets": 0.000001,
    "difference:global:10": 0.000015,
    "difference:blocked:reference": 0.00002,
    "difference:average": 0.00002,
    "specialised:small": 0.0005,
    "reference": 0.025,
}


def run_lengths(generator, frames, mean=120):
    """A label for each frame: runs of random length, by turns without and with the object."""
    label = np.zeros(0, bool)
    while len(label) < frames:
        length = max(30, int(generator.exponential(mean)))
        label = np.concatenate([label, np.full(length, len(label) and not label[-1])])
    return label[:frames].astype(bool)


def made_table(
    frames=6000, *, seed=0, label=None, noise=0.15, change=4.0, segment=300, train=0.0, choose=0.5
):
    """A table whose CNN errs by noise and whose detectors see changes of the label."""
    generator = np.random.default_rng(seed)
    label = run_lengths(generator, frames) if label is None else np.asarray(label, bool)
    frames = len(label)
    number = np.arange(frames)
    logit = np.where(label, 2.0, -2.0) + generator.normal(0, 20 * noise, frames)
    probability = 1 / (1 + np.exp(-logit))
    differs = {}
    for delay in (10,):
        changed = np.zeros(frames, bool)
        changed[delay:] = label[delay:] != label[:-delay]
        score = generator.exponential(1.0, frames) + change * changed
        for every in (1, 2, 5, 10):
            for which in ("all", "nonref"):
                name = difference_column(f"global:{delay}", every, which)
                if name is not None:
                    differs[name] = score.astype(np.float32)
    differs["blocked:reference"] = (generator.exponential(1.0, frames) + change * label).astype(np.float32)
    part = np.where(number < train * frames, 0, np.where(number < (train + choose) * frames, 1, 2))
    return ScoreTable(
        number=number,
        time_s=number / 30,
        packet_bytes=generator.integers(100, 9000, frames),
        key=number % segment == 0,
        label=label,
        reference_score=label.astype(np.float32),
        labelled=np.ones(frames, bool),
        disposable=number % 3 == 1,
        first=number % segment == 0,
        video=np.zeros(frames, np.int16),
        part=part.astype(np.uint8),
        differences=differs,
        specialised={"small": probability.astype(np.float32)},
        packets=(0.5 * probability + 0.25).astype(np.float32),
        costs=COSTS,
        frame_rate=30.0,
        query="car",
    )
