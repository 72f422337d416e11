"""Runs the tensors of a model without a batch: each request alone, in the model's own shapes."""

from __future__ import annotations

from collections.abc import Sequence

from cpuserve.errors import RequestError, last_line
from cpuserve.serving.batcher import Batcher
from cpuserve.serving.engine import Array
from cpuserve.serving.request import Request
from cpuserve.serving.tensor_checks import check_whole
from cpuserve.serving.whole_slot import WholeSlot

__all__ = ["infer_alone"]


def infer_alone(batcher: Batcher, tensors: Sequence[Array], request: Request) -> list[Array]:
    """Outputs of a model for one request, each in its own shape.

    Args:
        batcher: shares the streams of an engine without a batch.
        tensors: one array an input.
        request: takes the stage timings.

    Raises:
        RequestError: a tensor's shape or type is not the input's, the model refuses the sizes that it leaves
            to the client, or the answer is too large.
    """
    check_whole(batcher.engine.inputs, tensors)
    request.done("queue")
    rows = batcher.claim()
    try:
        memory: WholeSlot = rows.slot.memory
        memory.write(tensors)
        request.done("decode")
        try:
            batcher.run(rows)
        except RuntimeError as error:
            if not any(-1 in port.shape for port in batcher.engine.inputs):
                raise
            said = last_line(error)[:200]
            raise RequestError(f"the model cannot compute with these inputs: {said}") from error
        request.ran(rows.started_ns, rows.finished_ns, rows.count, led=rows.led)
        outputs = memory.whole_outputs()
        request.check_answer(1, sum(output.nbytes for output in outputs))
        request.done("post")
    finally:
        batcher.release(rows)
    return outputs
