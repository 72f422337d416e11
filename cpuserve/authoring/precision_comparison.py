"""Records what bf16 changes in the answers of a published model, on pictures, where the CPU has bf16."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino as ov

from cpuserve.authoring.evaluation_rows import EvaluationModel, EvaluationRows
from cpuserve.authoring.labelled_pictures import evenly_chosen, read_pictures
from cpuserve.authoring.precisions import Precision, compare_precisions
from cpuserve.authoring.report_process import Facts
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.models.precision_record import PrecisionRecord
from cpuserve.models.repository import ModelFile
from cpuserve.settings import Settings

__all__ = ["RECORDED", "compare_on_pictures", "measure_bf16", "record_of"]

RECORDED = "bf16"
_MOST_PICTURES = 100


def compare_on_pictures(xml: Path, images: Path, settings: Settings) -> Facts:
    """Compare a model in bf16 and in f32 on pictures.

    Args:
        xml: the IR.
        images: the pictures.
        settings: settings in force.

    Yields:
        The `Precision` as its report, or why there is none as "not_compared".

    Raises:
        ModelLoadError: the model takes no pictures or cannot be compiled.
    """
    core = ov.Core()
    if RECORDED.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        yield "not_compared", f"this CPU has no arithmetic in {RECORDED}"
        return
    model = EvaluationModel.of(core, ModelFile(xml.parent.parent.name, 0, xml), settings)
    pictures = model.rows(evenly_chosen(read_pictures(images, ()), _MOST_PICTURES))
    found = measure_bf16(core, model, model.model, pictures)
    if found.not_compared:
        yield "not_compared", found.not_compared
    else:
        yield from found.report.items()


def measure_bf16(
    core: ov.Core, model: EvaluationModel, graph: ov.Model, pictures: EvaluationRows
) -> Precision:
    """Compare a graph in bf16 and in f32.

    Args:
        core: OpenVINO's core.
        model: prepares pictures for the graph and reads its answers.
        graph: its model, or one made of it.
        pictures: the pictures.
    """
    answers = model.answers(pictures.frames)
    return compare_precisions(core, model.served(graph), pictures.rows, answers, (RECORDED,))[1]


def record_of(found: Mapping[str, Any]) -> PrecisionRecord | None:
    """What to store of a `Precision`'s report; None where bf16 was not compared.

    Args:
        found: the report.
    """
    evidence = found.get("evidence")
    if not evidence:
        return None
    machine = Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short
    figures = {name: evidence[name] for name in ("high", "pictures", "answers", "missed", "invented")}
    return PrecisionRecord(RECORDED, float(found["agreement"]), machine=machine, **figures)
