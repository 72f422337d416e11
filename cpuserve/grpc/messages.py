"""The messages and services of the .proto files in ``protos``, without generated code.

``protos/descriptors.binpb`` is what protoc makes of them; ``python docs/generate.py`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from cpuserve.errors import RequestError

__all__ = ["PROTOS", "message_class", "parse"]

PROTOS = Path(__file__).parent / "protos"
"""Directory of the .proto files."""

# a pool of its own: the one all share may hold another program's messages of the same names
_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString((PROTOS / "descriptors.binpb").read_bytes()).file:
    _pool.Add(_file)


def message_class(name: str) -> Any:
    """The class of a message, by its full name such as ``inference.ModelInferRequest``.

    Its fields are made at run time, so its type is unknown to type checkers.
    """
    return GetMessageClass(_pool.FindMessageTypeByName(name))


def parse(kind: Any, data: bytes) -> Any:
    """Read a message.

    Raises:
        RequestError: the bytes are none of this kind.
    """
    try:
        message: Message = kind.FromString(data)
    except DecodeError:
        raise RequestError(f"the message is no {kind.DESCRIPTOR.full_name}") from None
    return message
