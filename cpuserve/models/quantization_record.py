"""The accuracy figures of a quantised model, stored in its IR, and the check that refuses models without."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import OWN

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["NNCF_MARK", "NOT_VALIDATED", "SECTION", "VALIDATED", "Validation", "check_validated"]

SECTION = "quantized"  # below `rt_info/cpuserve`
NNCF_MARK = ["nncf", "quantization"]  # where NNCF leaves how it quantised

VALIDATED, NOT_VALIDATED = "validated", "not validated"


@dataclass(frozen=True)
class Validation:
    """Figures of a quantised model and of the float model it was made of.

    Attributes:
        source: the float model, as NAME/VERSION.
        method: "ptq" (all of it quantised) or "accuracy_control" (parts of it left in floats).
        metric: what accuracy means: "top1", "miou", "map", "agreement" or "module:function".
        accuracy: of the quantised model by that metric; more is better. None where it is not validated.
        accuracy_float: of the float model; None likewise.
        pictures: how many it was measured on.
        calibration_pictures: how many it was calibrated on.
        calibration_sha256: of the calibration pictures, see `cpuserve.authoring.labelled_pictures`.
        speedup: time of the float model over time of this one, one picture at a time.
        machine: the machine it was measured on.
        decision: "validated" or "not validated": its answers could not be compared.
        compared_with: what counted as right; empty where the record does not say.
        answers: how many answers were compared.
        drop_low: lower end of the 95% interval of the drop of the metric; None where there is none.
        drop_high: its upper end.
    """

    source: str
    method: str
    metric: str
    accuracy: float | None
    accuracy_float: float | None
    pictures: int
    calibration_pictures: int
    calibration_sha256: str
    speedup: float
    machine: str
    decision: str = VALIDATED
    compared_with: str = ""
    answers: int = 0
    drop_low: float | None = None
    drop_high: float | None = None

    def write(self, model: ov.Model) -> None:
        """Adds the figures to a model; `ov.save_model` stores them."""
        for field in fields(self):
            model.set_rt_info(str(getattr(self, field.name)), [OWN, SECTION, field.name])

    @classmethod
    def read(cls, model: ov.Model) -> Validation | None:
        """The figures a model carries, or None.

        Raises:
            ModelLoadError: some are missing or no numbers.
        """
        if not model.has_rt_info([OWN, SECTION]):
            return None
        found: dict[str, str] = {}
        for field in fields(cls):
            path = [OWN, SECTION, field.name]
            found[field.name] = str(model.get_rt_info(path).value) if model.has_rt_info(path) else ""
        try:
            return cls(
                source=found["source"],
                method=found["method"],
                metric=found["metric"],
                accuracy=_maybe(found["accuracy"]),
                accuracy_float=_maybe(found["accuracy_float"]),
                pictures=int(found["pictures"]),
                calibration_pictures=int(found["calibration_pictures"]),
                calibration_sha256=found["calibration_sha256"],
                speedup=float(found["speedup"]),
                machine=found["machine"],
                decision=found["decision"] or VALIDATED,
                compared_with=found["compared_with"],
                answers=int(found["answers"] or 0),
                drop_low=_maybe(found["drop_low"]),
                drop_high=_maybe(found["drop_high"]),
            )
        except ValueError as error:
            raise ModelLoadError(
                f"rt_info/{OWN}/{SECTION} is not what `cpuserve quantize` writes: {error}"
            ) from error


def _maybe(text: str) -> float | None:
    return None if text in ("", "None") else float(text)


def check_validated(model: ov.Model, name: str, *, allow: bool) -> None:
    """Refuses a model that NNCF quantised and whose accuracy was not measured.

    Models that were trained quantised (TFLite's uint8) carry no mark of NNCF: their publisher's figures hold.

    Args:
        model: as it was read.
        name: for the message.
        allow: the setting ``allow_unvalidated``.

    Raises:
        ModelLoadError: it was quantised after training and has no accuracy on record.
    """
    if allow or not model.has_rt_info(NNCF_MARK):
        return
    record = Validation.read(model)
    if record is not None and record.decision == VALIDATED:
        return
    if record is not None:
        raise ModelLoadError(
            f"{name} was quantised by NNCF, and its answers were not compared with the float model's "
            f"({record.decision}): serve it with --allow-unvalidated, or quantise the float model with "
            "pictures and a metric that judge it"
        )
    raise ModelLoadError(
        f"{name} was quantised by NNCF and has no accuracy on record (rt_info/{OWN}/{SECTION}): quantise the "
        "float model with `cpuserve quantize`, which measures it, or serve it with --allow-unvalidated"
    )
