"""Measures what the outputs of a model hold, in a child process."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import openvino as ov

from cpuserve.authoring.report_process import Facts, compute_in_child
from cpuserve.serving.judgement import asked_of_values, measured_evidence
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.postprocess import OutputEvidence, output_evidence

__all__ = ["measure", "measured_in_child"]


def measured_in_child(model: ov.Model, *, limit_s: float, option: str) -> tuple[OutputEvidence, ...]:
    """What graph and values show of each output; the model runs in a child process, whatever it does there.

    Args:
        model: the graph.
        limit_s: seconds until the child is killed; then only the graph counts.
        option: that sets the limit.
    """
    known = output_evidence(model)
    if not asked_of_values(known):
        return known
    with tempfile.TemporaryDirectory(prefix="cpuserve-judged-") as folder:
        xml = Path(folder) / "model.xml"
        ov.save_model(model, xml, compress_to_fp16=False)
        found, _ = compute_in_child(measure, xml, limit_s=limit_s, option=option)
    return tuple(
        OutputEvidence(**found[str(place)]) if str(place) in found else one for place, one in enumerate(known)
    )


def measure(xml: Path) -> Facts:
    """Measures the outputs of an IR.

    Yields:
        The evidence of each output, by its place.
    """
    for place, one in enumerate(measured_evidence(openvino_core().read_model(xml))):
        yield str(place), dataclasses.asdict(one)
