"""Compiles a model for f32, bf16 and f16 and compares the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.authoring.accuracy_guard import Evidence, Measured, judge
from cpuserve.authoring.parity import Array
from cpuserve.errors import ModelLoadError, last_line
from cpuserve.serving.answer_agreement import AnswerAgreement, AnswerReader

__all__ = ["HINTS", "Precision", "compare_precisions", "compiled_for", "in_force", "run"]

HINTS = ("f32", "bf16", "f16")


@dataclass(frozen=True)
class Precision:
    """A model in one precision.

    Attributes:
        asked: the INFERENCE_PRECISION_HINT that was set.
        in_force: the one that OpenVINO reports; a CPU without the arithmetic runs in f32.
        agreement: of the answers with those in f32, 0 to 1; None where it runs in f32 anyway, or where
            answers cannot be compared.
        evidence: what that rests on; None likewise.
        not_compared: why answers cannot be compared; else empty.
    """

    asked: str
    in_force: str
    agreement: float | None
    evidence: Evidence | None = None
    not_compared: str = ""

    @property
    def report(self) -> dict[str, Any]:
        """For a report: all of it, and the note."""
        return asdict(self) | {"note": self.note}

    @property
    def note(self) -> str:
        """What to tell the user where another precision is in force; else empty."""
        if self.asked == self.in_force:
            return ""
        return f"this CPU has no arithmetic in {self.asked}: OpenVINO runs it in {self.in_force}"


def compiled_for(core: ov.Core, graph: ov.Model, precision: str, threads: int = 0) -> ov.CompiledModel:
    """Compiles a graph for one stream.

    Args:
        core: OpenVINO's core.
        graph: the graph.
        precision: INFERENCE_PRECISION_HINT.
        threads: INFERENCE_NUM_THREADS; 0: OpenVINO's choice.

    Raises:
        ModelLoadError: OpenVINO refuses the graph.
    """
    properties = {"NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False}
    if threads:
        properties["INFERENCE_NUM_THREADS"] = threads
    try:
        return core.compile_model(graph, "CPU", properties)
    except RuntimeError as error:
        raise ModelLoadError(f"OpenVINO cannot compile the model: {last_line(error)}") from error


def in_force(compiled: ov.CompiledModel) -> str:
    """The precision that a compiled model runs in."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def run(compiled: ov.CompiledModel, rows: Sequence[Array]) -> Iterator[list[Array]]:
    """Yields the outputs for each row, without the batch; the next row overwrites them.

    Args:
        compiled: a model compiled for batches of one.
        rows: its input rows, without the batch.
    """
    request = compiled.create_infer_request()
    for row in rows:
        request.infer({0: row[np.newaxis]}, share_inputs=False)
        yield [np.asarray(tensor.data)[0] for tensor in request.output_tensors]


def compare_precisions(
    core: ov.Core, graph: ov.Model, rows: Sequence[Array], answers: AnswerReader, hints: Sequence[str] = HINTS
) -> list[Precision]:
    """Compares the answers in bf16 and f16 with those in f32.

    Args:
        core: OpenVINO's core.
        graph: takes one row at a time.
        rows: rows of the pictures.
        answers: reads answers from the outputs for a picture.
        hints: the precisions to compare.
    """
    agreement = AnswerAgreement(answers)
    exact = compiled_for(core, graph, "f32")
    for outputs in run(exact, rows):
        agreement.learn(outputs)
    reason = agreement.why_not()

    def measured(compiled: ov.CompiledModel) -> Measured:
        kept = [agreement.keep(outputs, index) for index, outputs in enumerate(run(compiled, rows))]
        return Measured(kept, agreement.value(kept))

    before = measured(exact)
    found = [Precision("f32", in_force(exact), None if reason else 1.0, None, reason)]
    for asked in hints:
        if asked == "f32":
            continue
        try:
            compiled = compiled_for(core, graph, asked)
        except ModelLoadError as error:  # OpenVINO claims more than a limited oneDNN has kernels for
            found.append(Precision(asked, asked, None, None, str(error)))
            continue
        real = in_force(compiled)
        if real == "f32" or reason:
            found.append(Precision(asked, real, None, None, reason))
            continue
        after = measured(compiled)
        evidence = judge(agreement, before, after, 1.0, ()).evidence
        found.append(Precision(asked, real, after.value, evidence))
    return found
