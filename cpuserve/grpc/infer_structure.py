"""What a ModelInferRequest holds besides its values and its id; kept, since clients repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from cpuserve.errors import RequestError
from cpuserve.grpc.messages import message_class, parse
from cpuserve.grpc.method import model_path
from cpuserve.protocols.tensor import MOST_DIMENSIONS, Tensor
from cpuserve.protocols.v2_body import MOST_NAME, MOST_TENSORS, OutputWanted, shared_place

__all__ = ["MOST_STRUCTURE", "InferStructure", "structure_of", "text_of"]

MOST_STRUCTURE = 1 << 20
"""Bytes of a request beside the values of its tensors."""

_Request = message_class("inference.ModelInferRequest")
_Input = message_class("inference.ModelInferRequest.InferInputTensor")
_KEPT, _KEPT_BYTES = 256, 4096  # how many are kept, and how long they may be


class InferStructure:
    """All of a request but its values and its id, read and checked once.

    Args:
        rest: the bytes of the request without inputs, values and id.
        inputs: the bytes of each input without its values.

    Attributes:
        model_name: that is asked.
        model_version: empty for none.
        parameters: of the request, by name.
        timeout_s: seconds that it gives itself; None where it does not.
        priority: 1 is first; None for none.
        path: of the HTTP call that asks for the same.

    Raises:
        RequestError: it is no ModelInferRequest, or its timeout or priority are no numbers.
    """

    def __init__(self, rest: bytes, inputs: Sequence[bytes]) -> None:
        head = parse(_Request, rest)
        self._inputs = [parse(_Input, one) for one in inputs]
        self._outputs = head.outputs
        self.model_name: str = head.model_name
        self.model_version: str = head.model_version
        self.parameters: Mapping[str, Any] = _parameters_of(head)
        timeout_us = _whole(self.parameters, "timeout", "of microseconds")
        self.timeout_s = timeout_us / 1e6 if timeout_us > 0 else None
        priority = _whole(self.parameters, "priority", "from 1")
        self.priority = priority if priority > 0 else None
        self.path = model_path(self.model_name, self.model_version, "/infer")

    @cached_property
    def tensors(self) -> Sequence[Tensor]:
        """The inputs without their values.

        Raises:
            RequestError: one is not what the protocol says.
        """
        return [_tensor(one) for one in self._inputs]

    @cached_property
    def outputs(self) -> Sequence[OutputWanted]:
        """The outputs that are asked for; empty means all.

        Raises:
            RequestError: one is not what the protocol says, or there are too many.
        """
        if len(self._outputs) > MOST_TENSORS:
            raise RequestError(
                f"{len(self._outputs)} outputs; a request may have at most {MOST_TENSORS} outputs"
            )
        found: dict[str, OutputWanted] = {}
        for output in self._outputs:
            if output.name in found:
                raise RequestError(f"output {output.name[:MOST_NAME]!r} is asked for twice")
            parameters = _parameters_of(output)
            classes = parameters.get("classification", 0)
            if type(classes) is not int or classes < 0:
                raise RequestError(f"classification of output {output.name!r} is a number of classes")
            place = shared_place(parameters, f"output {output.name!r}")
            found[output.name] = OutputWanted(output.name, True, classes, place)
        return list(found.values())


def structure_of(rest: bytes, inputs: tuple[bytes, ...], size: int) -> InferStructure:
    """The structure of a request: one that was read before, if it is small.

    Args:
        rest: see `InferStructure`, which says what is raised too.
        inputs: see there.
        size: bytes of both.
    """
    return _read_before(rest, inputs) if size <= _KEPT_BYTES else InferStructure(rest, inputs)


@lru_cache(maxsize=_KEPT)
def _read_before(rest: bytes, inputs: tuple[bytes, ...]) -> InferStructure:
    return InferStructure(rest, inputs)


def text_of(data: bytes) -> str:
    """The text in a field.

    Raises:
        RequestError: it is none.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RequestError(f"the message is no {_Request.DESCRIPTOR.full_name}") from None


def _parameters_of(message: Any) -> dict[str, Any]:
    """The parameters of a request, an input or an output, by name."""
    found = {}
    for name, choice in message.parameters.items():
        which = choice.WhichOneof("parameter_choice")
        if which is not None:
            found[name] = getattr(choice, which)
    return found


def _whole(parameters: Mapping[str, Any], name: str, what: str) -> int:
    """A parameter of a request that is a number; 0 where it is missing.

    Raises:
        RequestError: it is something else.
    """
    value = parameters.get(name, 0)
    if type(value) is not int:
        raise RequestError(f"the parameter {name!r} is a whole number {what}, not {str(value)[:40]!r}")
    return value


def _tensor(described: Any) -> Tensor:
    name, datatype = described.name, described.datatype
    if max(len(name), len(datatype)) > MOST_NAME:
        raise RequestError(f"{name[:40]!r}...: names and datatypes have at most {MOST_NAME} characters")
    if len(described.shape) > MOST_DIMENSIONS:
        raise RequestError(
            f"input {name!r}: its shape has {len(described.shape)} sizes; it may have at most "
            f"{MOST_DIMENSIONS} dimensions"
        )
    shape = tuple(described.shape)
    if any(size < 0 for size in shape):
        raise RequestError(f"input {name!r} needs a shape of whole numbers, not {list(shape)}")
    place = shared_place(_parameters_of(described), f"input {name!r}")
    return Tensor(name, datatype, shape, [], place)
