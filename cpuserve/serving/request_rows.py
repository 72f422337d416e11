"""Runs the rows of one request in one batch after another, and gathers their outputs: `run_rows`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cpuserve.serving.batcher import Batcher, BatchRows
from cpuserve.serving.cut_parts import CutParts
from cpuserve.serving.engine import Array
from cpuserve.serving.request import Request

__all__ = ["run_rows"]


def run_rows(
    batcher: Batcher,
    count: int,
    fill: Callable[[BatchRows, int], None],
    request: Request,
    cut: CutParts | None,
) -> list[Array]:
    """Run the rows of a request, as many at a time as a slot holds.

    Args:
        batcher: of the model.
        count: of the rows.
        fill: called with rows of a batch and the number of the first of them, to be written.
        request: takes the stage timings.
        cut: head and tail of a cut model; None for a whole one.

    Returns:
        One array [count, ...] an output.

    Raises:
        DeadlineExceeded: its time was over between two batches.
        RequestError: the outputs are more than an answer may have, or what ``fill`` raised.
    """
    gathered: list[Array] = []
    request.done("queue")
    for start in range(0, count, batcher.max_batch):
        if start:
            request.check_time(start, count)
        rows = batcher.claim(min(batcher.max_batch, count - start))
        try:
            fill(rows, start)
            request.done("decode")
            batcher.run(rows)
            request.ran(rows.started_ns, rows.finished_ns, rows.count, led=rows.led)
            outputs = rows.outputs if cut is None else cut.whole_outputs(rows.outputs)
            if not start:
                request.check_answer(count, sum([output.nbytes for output in outputs]) // rows.count)
            if rows.count == count:
                gathered = list(map(np.array, outputs))
            else:
                _put(gathered, outputs, start, count)
            request.done("post")
        finally:
            batcher.release(rows)
    return gathered


def _put(gathered: list[Array], outputs: Sequence[Array], start: int, count: int) -> None:
    """Put the outputs of a batch, from row ``start`` on, into arrays of ``count`` rows."""
    if not gathered:
        gathered += [np.empty((count, *output.shape[1:]), output.dtype) for output in outputs]
    for whole, part in zip(gathered, outputs, strict=True):
        whole[start : start + len(part)] = part
