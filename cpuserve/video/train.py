"""Learns a cascade from labelled video, or chooses another one from the scores of an earlier training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cpuserve.errors import UsageError, VideoError
from cpuserve.serving.engine import Array
from cpuserve.video.answer_store import AnswerStore, default_answers, file_checksum
from cpuserve.video.answering_model import AnsweringModel
from cpuserve.video.background_network import BACKGROUND
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_file import Cascade, ReferenceModel
from cpuserve.video.cascade_page import cascade_page
from cpuserve.video.chosen_cascade import ChosenCascade, choose_cascade, plan_parts
from cpuserve.video.cnn_learner import Trainer, check_trainer
from cpuserve.video.decoding import probe_apart
from cpuserve.video.difference import DIFFERENCE_SCALE
from cpuserve.video.frame_scores import OwnCnn, PacketColumns, Scoring, score_frames
from cpuserve.video.guarantee import Budgets
from cpuserve.video.label_plan import Stretch, plan_stretches
from cpuserve.video.own_labels import OwnLabels
from cpuserve.video.query import Query
from cpuserve.video.score_table import ScoreTable
from cpuserve.video.specialised_cnn import SpecialisedCnn, as_ir
from cpuserve.video.specialised_training import SIZES, CnnSize
from cpuserve.video.trained_cascade import cascade_of
from cpuserve.video.training_clip import (
    ClipRows,
    Progress,
    decode_costs,
    disposable_frames,
    read_clip,
    reference_cost,
    stage_0_notes,
)
from cpuserve.video.training_files import Learnt, TrainingFacts, VideoFacts
from cpuserve.video.training_labels import agreement, labels_of, open_stores, stored_labels
from cpuserve.video.video_file import VideoFile

__all__ = ["MOST_LABELS", "Training", "TrainingOptions", "finish", "label_again", "learn"]

MOST_LABELS = 20_000
_SHARED = "shared"  # the picture that detectors and trained networks share


@dataclass(frozen=True)
class TrainingOptions:
    """How a cascade is learnt.

    Attributes:
        train_share: share of the labelled time, counted in changes of the label, to learn weights on.
        choose_share: share to choose thresholds on; the rest proves.
        most_labels: frames that the reference is asked about at most.
        sizes: of the networks that are trained.
        own_cnns: IR or ONNX of the user's own networks.
        own_labels: one for each video, instead of the answers of the reference.
        seed: of the training of the networks.
        trainer: who trains them.
        answers: directory in which the answers of the reference are kept.
        processes: that decode; None for as many as this process may use CPUs.
        local: whether the reference runs in this process.

    Raises:
        UsageError: a share leaves nothing for the other parts.
        MissingExtra: the package of the trainer is not installed.
    """

    train_share: float = 0.4
    choose_share: float = 0.2
    most_labels: int = MOST_LABELS
    sizes: Sequence[CnnSize] = SIZES
    own_cnns: Sequence[Path] = ()
    own_labels: Sequence[OwnLabels] = ()
    seed: int = 0
    trainer: Trainer = "numpy"
    answers: Path = field(default_factory=default_answers)
    processes: int | None = None
    local: bool = True

    def __post_init__(self) -> None:
        check_trainer(self.trainer)
        if not (self.train_share > 0 and self.choose_share > 0 and self.prove_share > 0.01):
            raise UsageError(
                f"--train-share {self.train_share:g} and --choose-share {self.choose_share:g} have to be "
                "above 0 and leave some time for the proof: together they have to be below 0.99"
            )

    @property
    def prove_share(self) -> float:
        """The share that the bound is proven on."""
        return 1 - self.train_share - self.choose_share


@dataclass(frozen=True)
class Training:
    """A cascade with all it was chosen from.

    Attributes:
        learnt: parts and scores.
        chosen: the choice, and what is promised of it.
        cascade: its file.
    """

    learnt: Learnt
    chosen: ChosenCascade
    cascade: Cascade

    def summary(self) -> dict[str, Any]:
        """What was chosen and promised, as JSON."""
        chosen, promise = self.chosen, self.chosen.promise
        return {
            "query": self.learnt.facts.query.text,
            "choice": dataclasses.asdict(chosen.choice),
            "cost_ms": chosen.cost_s * 1e3,
            "times_reference": chosen.speed_up,
            "times_sampled_reference": chosen.sampled_s / chosen.cost_s,
            "shares": {
                stage.name.lower(): share for stage, share in zip(DecidedBy, chosen.shares, strict=True)
            },
            "promise": dataclasses.asdict(self.cascade.promise) if promise.promised else None,
            "more_minutes": promise.more_minutes if math.isfinite(promise.more_minutes) else None,
            "counts": {part: dataclasses.asdict(counts) for part, counts in promise.counts.items()},
            "words": [*promise.words],
            "notes": [*self.learnt.table.notes],
        }


def learn(
    paths: Sequence[Path],
    reference: AnsweringModel,
    labels: Sequence[str],
    query: Query,
    options: TrainingOptions,
    scratch: Path,
    *,
    report: Progress,
) -> Learnt:
    """Decodes the videos once, has their frames labelled, and learns and scores everything.

    Args:
        paths: of the videos, all of one camera.
        reference: labels frames.
        labels: names of its classes, for later queries.
        query: what is asked.
        options: how.
        scratch: directory for pictures and networks.
        report: of progress.

    Raises:
        VideoError: a video cannot be read.
        UsageError: there are too few frames of a class, or options do not fit.
    """
    videos = [probe_apart(path) for path in paths]
    if options.own_labels and len(options.own_labels) != len(videos):
        raise UsageError(
            f"{len(options.own_labels)} files of --labels were given for {len(videos)} videos: give one for "
            "each"
        )
    checksums = [file_checksum(path) for path in paths]
    stretches = plan_stretches(videos, options.most_labels)
    own = {path: SpecialisedCnn(path) for path in (as_ir(one, scratch) for one in options.own_cnns)}
    _check_names(own, options.sizes)
    scales = {_SHARED: DIFFERENCE_SCALE} | {network.name: network.scale for network in own.values()}
    with ExitStack() as stack:
        stores = None
        if not options.own_labels:
            # without a checksum of the model nobody knows later whether its answers are still the same
            folder = options.answers if reference.checksum else scratch / "answers"
            stores = open_stores(stack, folder, checksums, reference)
        rows = read_clip(
            videos,
            stretches,
            scales,
            reference,
            stores,
            scratch,
            processes=options.processes,
            report=report,
        )
        columns = labels_of(rows, query, stores, options.own_labels)
    costs = decode_costs(videos, stretches, report=report)
    costs["scale"] = rows.scale_s
    costs["reference"], answers = reference_cost(reference, rows.measured, local=options.local)
    disposable = disposable_frames(videos, stretches, rows, report=report)
    notes = stage_0_notes(costs, disposable)
    if options.own_labels:
        notes += agreement(rows, query, columns, answers)
    table = _table(videos, stretches, rows, disposable, columns, costs, query, options, notes)
    kept = columns[2]
    facts = TrainingFacts(
        videos=tuple(
            VideoFacts(str(path), checksum, *rows.sizes.get(place, (video.width, video.height)))
            for place, (path, checksum, video) in enumerate(zip(paths, checksums, videos, strict=True))
        ),
        reference=ReferenceModel(reference.name, reference.version, reference.checksum, reference.scale),
        labels=tuple(labels),
        own_labels=bool(options.own_labels),
        query=query,
    )
    scoring = Scoring(
        options.sizes,
        options.seed,
        [OwnCnn(path, rows.pictures[network.name][kept]) for path, network in own.items()],
        options.trainer,
    )
    packets = [(video.packet_bytes, video.key) for video in videos]
    return score_frames(facts, table, rows.pictures[_SHARED][kept], packets, scoring, scratch, report=report)


def label_again(
    learnt: Learnt, query: Query, options: TrainingOptions, scratch: Path, *, report: Progress
) -> Learnt:
    """Labels the frames of an earlier training for another query, and learns again, without decoding.

    Raises:
        UsageError: the answers of the reference are not there any more.
    """
    facts, table = learnt.facts, learnt.table
    if facts.own_labels:
        raise UsageError("the labels were your own: for another query train again with --labels")
    reference = facts.reference
    label, score = np.zeros(len(table), bool), np.zeros(len(table), np.float32)
    for place, video in enumerate(facts.videos):
        model = (reference.model, reference.checksum, reference.scale)
        with AnswerStore(options.answers, video.checksum, *model) as store:
            own = np.flatnonzero(table.video == place)
            label[own], score[own] = stored_labels(store, query, table.number[own])
    again = dataclasses.replace(
        table,
        label=label,
        reference_score=score,
        part=parts_of(label, options),
        query=query.text,
        notes=(),
    )
    packets = [_packet_columns(Path(video.path)) for video in facts.videos]
    scoring = Scoring(options.sizes, options.seed, trainer=options.trainer)
    facts = dataclasses.replace(facts, query=query)
    return score_frames(facts, again, learnt.pictures, packets, scoring, scratch, report=report)


def finish(learnt: Learnt, budgets: Budgets, directory: Path, ending: str) -> Training:
    """Chooses among what was learnt, and writes cascade, scores and report into a directory.

    Args:
        learnt: parts and scores.
        budgets: what may be wrong.
        directory: there already.
        ending: of the file of scores, ``.npz`` or ``.parquet``.

    Raises:
        UsageError: a part of the labelled time is too short.
    """
    chosen = choose_cascade(learnt.table, budgets)
    learnt.save(directory, ending)
    cascade = cascade_of(learnt, chosen).save(directory)
    (directory / "report.html").write_text(cascade_page(learnt.table, chosen), encoding="utf-8")
    return Training(learnt, chosen, cascade)


def parts_of(label: Array, options: TrainingOptions) -> Array:
    """The part of each frame: to learn, to choose, to prove."""
    return plan_parts(label, (options.train_share, options.choose_share, options.prove_share))


def _table(
    videos: Sequence[VideoFile],
    stretches: Sequence[Stretch],
    rows: ClipRows,
    disposable: Array,
    columns: tuple[Array, Array, Array],
    costs: dict[str, float],
    query: Query,
    options: TrainingOptions,
    notes: list[str],
) -> ScoreTable:
    """The table without scores; frames without a label are left out, and a segment starts after them."""
    label, score, kept = columns
    first = rows.first.copy()
    first[1:] |= ~kept[:-1]
    frames = sum(video.frames for video in videos)
    planned = sum(stretch.stop - stretch.start for stretch in stretches)
    if planned < frames:
        notes.append(
            f"{planned} of {frames} frames were read: --most-labels {options.most_labels} allows no more"
        )
    if len(rows.number) < planned:
        notes.append(f"{planned - len(rows.number)} frames could not be decoded")
    if not kept.all():
        notes.append(f"{int((~kept).sum())} frames without a label were left out")
    return ScoreTable(
        number=rows.number[kept],
        time_s=rows.time_s[kept],
        packet_bytes=rows.packet_bytes[kept],
        key=rows.key[kept],
        label=label[kept],
        reference_score=score[kept],
        labelled=np.ones(int(kept.sum()), bool),
        disposable=disposable[kept],
        first=first[kept],
        video=rows.video[kept],
        part=parts_of(label[kept], options),
        costs=costs,
        videos=tuple(video.path.name for video in videos),
        frame_rate=videos[0].frame_rate,
        query=query.text,
        notes=tuple(notes),
    )


def _check_names(own: dict[Path, SpecialisedCnn], sizes: Sequence[CnnSize]) -> None:
    trained = [*(size.name for size in sizes), BACKGROUND, _SHARED]
    names = [*(network.name for network in own.values()), *trained]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two specialised networks are named {twice[0]}: rename the file of yours")


def _packet_columns(path: Path) -> PacketColumns | None:
    try:
        video = probe_apart(path)
    except VideoError:
        return None
    return video.packet_bytes, video.key
