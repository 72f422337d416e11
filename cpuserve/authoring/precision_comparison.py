"""Records what bf16 changes in the answers of a published model, on pictures, where the CPU has bf16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino as ov

from cpuserve.authoring.evaluation_rows import EvaluationModel, EvaluationRows
from cpuserve.authoring.ir_file import save_ir
from cpuserve.authoring.labelled_pictures import evenly_chosen, read_pictures
from cpuserve.authoring.precisions import Precision, compare_precisions
from cpuserve.authoring.report_process import Facts, compute_in_child
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.models.precision_record import PrecisionRecord
from cpuserve.models.repository import ModelFile
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings

__all__ = ["RECORDED", "PrecisionTask", "compare_on_pictures", "measure_bf16", "record_bf16", "record_of"]

RECORDED = "bf16"
_MOST_PICTURES = 100


@dataclass(frozen=True)
class PrecisionTask:
    """What to compare, in a form that another process can be given.

    Attributes:
        xml: the written IR, with its card.
        images: the pictures.
        settings: settings in force.
        compress_to_fp16: whether its weights are stored as f16.
    """

    xml: Path
    images: Path
    settings: Settings
    compress_to_fp16: bool = False


def record_bf16(model: ov.Model, task: PrecisionTask, *, limit_s: float, option: str) -> dict[str, Any]:
    """Compares a written model in bf16 and in f32, in a child process, and writes it again with the record.

    Args:
        model: the model as it was written.
        task: what to compare.
        limit_s: seconds until the comparison is given up.
        option: that sets the limit, for the message.

    Returns:
        The `Precision` as its report, or why there is none as "not_compared".

    Raises:
        RepositoryError: the model cannot be written.
    """
    found, missing = compute_in_child(compare_on_pictures, task, limit_s=limit_s, option=option)
    if missing:
        return {"not_compared": missing}
    record = record_of(found)
    if record is not None:
        record.write(model)
        save_ir(model, task.xml.parent, compress_to_fp16=task.compress_to_fp16)
    return found


def compare_on_pictures(task: PrecisionTask) -> Facts:
    """Compare a model in bf16 and in f32 on pictures.

    Args:
        task: what to compare.

    Yields:
        The `Precision` as its report, or why there is none as "not_compared".

    Raises:
        ModelLoadError: the model takes no pictures or cannot be compiled.
    """
    core = openvino_core()
    if RECORDED.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        yield "not_compared", f"this CPU has no arithmetic in {RECORDED}"
        return
    model = EvaluationModel.of(core, ModelFile(task.xml.parent.parent.name, 0, task.xml), task.settings)
    pictures = model.rows(evenly_chosen(read_pictures(task.images, ()), _MOST_PICTURES))
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
