"""Gives the inputs and outputs of a graph element types that clients can send, or refuses the model."""

from __future__ import annotations

import openvino as ov
from openvino import Type
from openvino.preprocess import PrePostProcessor

from cpuserve.errors import ModelLoadError
from cpuserve.serving.graph import names_of

__all__ = ["with_served_types"]

_SERVED = frozenset(
    ("boolean", "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f16", "f32", "f64"),
)
# NumPy has no such numbers: clients send and get the next larger type, and the graph converts
_WIDENED = {"bf16": Type.f32, "f8e4m3": Type.f32, "f8e5m2": Type.f32, "i4": Type.i8, "u4": Type.u8}


def with_served_types(model: ov.Model, name: str) -> ov.Model:
    """The model, with a conversion at each input and output whose numbers NumPy does not have.

    Args:
        model: the graph; it may be changed.
        name: of the model, for messages.

    Raises:
        ModelLoadError: there is none, or one holds text, or numbers of which several lie in a byte.
    """
    widened = False
    for what, ports in (("input", model.inputs), ("output", model.outputs)):
        if not ports:
            raise ModelLoadError(f"{name} has no {what}s, so no request can be answered")
        for port in ports:
            kind = port.element_type.get_type_name()
            if kind not in _SERVED and kind not in _WIDENED:
                there = ", ".join(sorted(_SERVED | {*_WIDENED}))
                raise ModelLoadError(
                    f"{what} {names_of(port)[0]!r} of {name} has elements of type {kind}; those of types "
                    f"{there} are served: leave that part out when the model is exported, or end before it "
                    "with `cpuserve convert --output`"
                )
            widened |= kind in _WIDENED
    if not widened:
        return model
    steps = PrePostProcessor(model)
    for place, port in enumerate(model.inputs):
        wider = _WIDENED.get(port.element_type.get_type_name())
        if wider is not None:
            steps.input(place).tensor().set_element_type(wider)
    for place, port in enumerate(model.outputs):
        wider = _WIDENED.get(port.element_type.get_type_name())
        if wider is not None:
            steps.output(place).tensor().set_element_type(wider)
    return steps.build()
