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

from cpuserve.errors import BodyTooLarge, RequestError

__all__ = ["PROTOS", "file_of", "message_class", "parse"]

PROTOS = Path(__file__).parent / "protos"
"""Directory of the .proto files."""

_MOST_BYTES = 1 << 20

# a pool of its own: the one all share may hold another program's messages of the same names
_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString((PROTOS / "descriptors.binpb").read_bytes()).file:
    _pool.Add(_file)


def message_class(name: str) -> Any:
    """The class of a message, by its full name such as ``inference.ModelInferRequest``.

    Its fields are made at run time, so its type is unknown to type checkers.
    """
    return GetMessageClass(_pool.FindMessageTypeByName(name))


def parse(kind: Any, data: bytes, most_bytes: int = _MOST_BYTES) -> Any:
    """Read a message.

    Args:
        kind: its class.
        data: its bytes.
        most_bytes: that it may have: protobuf makes many objects of few bytes.

    Raises:
        BodyTooLarge: it has more bytes.
        RequestError: the bytes are none of this kind.
    """
    if len(data) > most_bytes:
        raise BodyTooLarge(
            f"{kind.DESCRIPTOR.full_name} has {len(data)} bytes; without tensors it may have {most_bytes}"
        )
    try:
        message: Message = kind.FromString(data)
    except DecodeError:
        raise RequestError(f"the message is no {kind.DESCRIPTOR.full_name}") from None
    return message


def file_of(*, name: str = "", symbol: str = "") -> list[bytes]:
    """The description of a .proto file, by its name or by a symbol in it, and of those that it imports.

    Returns:
        Each serialised, the file itself first; nothing for an unknown one.
    """
    try:
        file = _pool.FindFileByName(name) if name else _file_with(symbol)
    except KeyError:
        return []
    found, left = {file.name: file}, [file]
    while left:
        for imported in left.pop().dependencies:
            if imported.name not in found:
                found[imported.name] = imported
                left.append(imported)
    return [one.serialized_pb for one in found.values()]


def _file_with(symbol: str) -> Any:
    try:
        return _pool.FindFileContainingSymbol(symbol)
    except KeyError:
        return _pool.FindMethodByName(symbol).containing_service.file
