"""Reads multipart forms, as browsers and curl -F send them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, cast

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from cpuserve.errors import BodyTooLarge, RequestError
from cpuserve.protocols.call import Call

__all__ = ["Form", "read_form"]

_PARTS, _TEXT_BYTES = 1000, 500_000


@dataclass(frozen=True)
class Form:
    """What a form holds; of several parts with one name the first.

    Attributes:
        texts: the parts without a file name.
        files: the parts with one.
    """

    texts: Mapping[str, str]
    files: Mapping[str, memoryview]


def read_form(call: Call) -> Form | None:
    """The form in the body of a request; None where its content type is another.

    Raises:
        RequestError: the form cannot be read.
        BodyTooLarge: it has too many parts or too much text, or inflates to too many bytes.
    """
    kind = call.headers.get("content-type", "")
    if kind[:10].lower() != "multipart/":
        return None
    body = call.body()
    mimetype, options = parse_options_header(kind)
    parser = FormDataParser(_in_memory, max_form_memory_size=_TEXT_BYTES, max_form_parts=_PARTS)
    try:
        with io.BufferedReader(_Stream(body)) as stream:
            _, texts, files = parser.parse(stream, mimetype.lower(), body.nbytes, options)
    except RequestEntityTooLarge:
        raise BodyTooLarge(
            f"the multipart form has too many parts (more than {_PARTS}), or text longer than "
            f"{_TEXT_BYTES // 1000} kB; send the picture as the body"
        ) from None
    except HTTPException as error:
        raise RequestError(f"the multipart form cannot be read: {error.description}") from None
    return Form(texts, {name: cast("io.BytesIO", file.stream).getbuffer() for name, file in files.items()})


class _Stream(io.RawIOBase):
    """Gives the bytes of a body without another copy of the whole."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        """True: it is an input stream."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Copy the next bytes into ``buffer``."""
        part = self._data[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def _in_memory(*_: object, **__: object) -> IO[bytes]:
    """The file that a part of a form is written to; the body is in memory anyway."""
    return io.BytesIO()
