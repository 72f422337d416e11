"""What a lower precision changes in a model's answers, measured by `convert` and stored in the IR."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import OWN

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["PrecisionRecord"]

_SECTION = "precision_"  # and the precision, below `rt_info/cpuserve`


@dataclass(frozen=True)
class PrecisionRecord:
    """How a model's answers in a precision agree with those in f32.

    Attributes:
        precision: "bf16" or "f16".
        agreement: of the answers, 0 to 1.
        high: upper end of the 95% interval of what the precision changes, 0 to 1.
        pictures: how many it was measured on.
        answers: how many answers there were in f32.
        missed: how many of them the precision lacks.
        invented: how many it adds.
        machine: the machine it was measured on.
    """

    precision: str
    agreement: float
    high: float
    pictures: int
    answers: int
    missed: int
    invented: int
    machine: str

    def __str__(self) -> str:
        return (
            f"agreement of {self.precision} with f32 {self.agreement:.4f} on {self.pictures} pictures "
            f"({self.answers} answers, {self.missed} missed, {self.invented} invented)"
        )

    def write(self, model: ov.Model) -> None:
        """Adds the figures to a model; `ov.save_model` stores them."""
        for field in fields(self):
            value = str(getattr(self, field.name))
            model.set_rt_info(value, [OWN, _SECTION + self.precision, field.name])

    @classmethod
    def read(cls, model: ov.Model, precision: str) -> PrecisionRecord | None:
        """The figures that a model carries of a precision, or None.

        Raises:
            ModelLoadError: some are missing or no numbers.
        """
        section = _SECTION + precision
        if not model.has_rt_info([OWN, section]):
            return None
        found: dict[str, str] = {}
        for field in fields(cls):
            path = [OWN, section, field.name]
            found[field.name] = str(model.get_rt_info(path).value) if model.has_rt_info(path) else ""
        try:
            return cls(
                precision=precision,
                agreement=float(found["agreement"]),
                high=float(found["high"]),
                pictures=int(found["pictures"]),
                answers=int(found["answers"]),
                missed=int(found["missed"]),
                invented=int(found["invented"]),
                machine=found["machine"],
            )
        except ValueError as error:
            raise ModelLoadError(
                f"rt_info/{OWN}/{section} is not what `cpuserve convert` writes: {error}"
            ) from error
