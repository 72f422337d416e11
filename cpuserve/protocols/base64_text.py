"""Decodes base64 as clients write it: with white space, without padding, with the letters for URLs."""

from __future__ import annotations

import base64
import re

__all__ = ["decode_base64"]

_URL_LETTERS = str.maketrans("-_", "+/")
_DATA_URL = re.compile(r"\s*data:[\w.+/;=-]{0,100};base64,", re.ASCII)


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 text, which may be a data URL.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        prefix = _DATA_URL.match(text)
        letters = "".join(text[prefix.end() if prefix else 0 :].split()).translate(_URL_LETTERS)
        bare = letters.rstrip("=")
        if len(letters) - len(bare) > 2 or not bare:
            raise
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
