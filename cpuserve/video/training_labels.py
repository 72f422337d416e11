"""Labels of training frames: from the kept answers of the reference, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.engine import Array
from cpuserve.video.answer_store import AnswerStore
from cpuserve.video.answering_model import AnsweringModel
from cpuserve.video.frame_model import SeenFrame
from cpuserve.video.own_labels import OwnLabels
from cpuserve.video.query import Query
from cpuserve.video.training_clip import ClipRows

__all__ = ["agreement", "labels_of", "open_stores", "stored_labels"]


def open_stores(
    stack: ExitStack, folder: Path, checksums: Sequence[str], reference: AnsweringModel
) -> list[AnswerStore]:
    """The answers to each video; a video that is named twice has one store.

    Args:
        stack: closes them.
        folder: where they lie.
        checksums: of the videos.
        reference: whose answers they are.

    Raises:
        UsageError: they cannot be read or written.
    """
    model = (reference.name, reference.checksum, reference.scale)
    opened = {
        checksum: stack.enter_context(AnswerStore(folder, checksum, *model))
        for checksum in dict.fromkeys(checksums)
    }
    return [opened[checksum] for checksum in checksums]


def labels_of(
    rows: ClipRows, query: Query, stores: Sequence[AnswerStore] | None, own_labels: Sequence[OwnLabels]
) -> tuple[Array, Array, Array]:
    """Label bool [n], score f32 [n] and whether it is labelled, bool [n].

    Raises:
        UsageError: the query does not fit the answers, or no frame is labelled.
    """
    label = np.zeros(len(rows.number), bool)
    score = np.zeros(len(rows.number), np.float32)
    labelled = np.ones(len(rows.number), bool)
    for place, (width, height) in rows.sizes.items():
        own = np.flatnonzero(rows.video == place)
        numbers = rows.number[own]
        if stores is None:
            label[own], score[own], labelled[own] = own_labels[place].labels(query, numbers, width, height)
        else:
            label[own], score[own] = stored_labels(stores[place], query, numbers)
    if not labelled.any():
        raise UsageError(f"{own_labels[0].path} labels no frame of the video")
    return label, score, labelled


def stored_labels(store: AnswerStore, query: Query, numbers: Array) -> tuple[Array, Array]:
    """Label bool [n] and score f32 [n] of frames whose answers are kept.

    Raises:
        UsageError: there is no answer to a frame.
    """
    label, score = np.zeros(len(numbers), bool), np.zeros(len(numbers), np.float32)
    for row, number in enumerate(numbers.tolist()):
        kept = store.get(number)
        if kept is None:
            raise UsageError(
                f"frame {number} has no answer of the reference in {store.path}: train again, or name the "
                "directory with the answers by --answers"
            )
        label[row], score[row] = query.present(kept.answer, kept.width, kept.height, kept.mask)
    return label, score


def agreement(
    rows: ClipRows, query: Query, columns: tuple[Array, Array, Array], answers: Sequence[SeenFrame]
) -> list[str]:
    """Says how often the reference, which the cascade asks, agrees with labels of the user's own."""
    label, _, labelled = columns
    checked = [
        query.present(seen.answer, width, height, seen.mask)[0] == label[row]
        for (row, _, width, height), seen in zip(rows.measured, answers, strict=True)
        if labelled[row]
    ]
    return [
        f"the reference agrees with your labels on {sum(checked)} of {len(checked)} frames that were "
        "checked: where the cascade asks it, its answer counts"
    ]
