"""The accuracy figures of a quantised model, stored in its IR, and the check that refuses models without."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import OWN

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["NNCF_MARK", "SECTION", "Validation", "check_validated"]

SECTION = "quantized"  # below `rt_info/cpuserve`
NNCF_MARK = ["nncf", "quantization"]  # where NNCF leaves how it quantised


@dataclass(frozen=True)
class Validation:
    """Figures of a quantised model and of the float model it was made of.

    Attributes:
        source: the float model, as NAME/VERSION.
        method: "ptq" (all of it quantised) or "accuracy_control" (parts of it left in floats).
        metric: what accuracy means: "top1", "miou", "map", "agreement" or "module:function".
        accuracy: of the quantised model by that metric; more is better.
        accuracy_float: of the float model.
        pictures: how many it was measured on.
        calibration_pictures: how many it was calibrated on.
        calibration_sha256: of the calibration pictures, see `cpuserve.authoring.labelled_pictures`.
        speedup: time of the float model over time of this one, one picture at a time.
        machine: the machine it was measured on.
    """

    source: str
    method: str
    metric: str
    accuracy: float
    accuracy_float: float
    pictures: int
    calibration_pictures: int
    calibration_sha256: str
    speedup: float
    machine: str

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
                accuracy=float(found["accuracy"]),
                accuracy_float=float(found["accuracy_float"]),
                pictures=int(found["pictures"]),
                calibration_pictures=int(found["calibration_pictures"]),
                calibration_sha256=found["calibration_sha256"],
                speedup=float(found["speedup"]),
                machine=found["machine"],
            )
        except ValueError as error:
            raise ModelLoadError(
                f"rt_info/{OWN}/{SECTION} is not what `cpuserve quantize` writes: {error}"
            ) from error


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
    if allow or not model.has_rt_info(NNCF_MARK) or Validation.read(model) is not None:
        return
    raise ModelLoadError(
        f"{name} was quantised by NNCF and has no accuracy on record (rt_info/{OWN}/{SECTION}): quantise the "
        "float model with `cpuserve quantize`, which measures it, or serve it with --allow-unvalidated"
    )
