"""Base64 as clients write it."""

from __future__ import annotations

import base64

import pytest

from cpuserve.protocols.base64_text import decode_base64

DATA = bytes(range(256)) + b"\xfb\xff\xfe"


@pytest.mark.parametrize("cut", [0, 1, 2])
@pytest.mark.parametrize("letters", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_white_space_letters_for_urls_and_lost_padding(letters, cut):
    data = DATA[: len(DATA) - cut]
    text = letters(data).decode()
    wide = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    for sent in (text, text.rstrip("=\n"), f" {wide}\n", "data:image/png;base64," + text):
        assert decode_base64(sent) == data


@pytest.mark.parametrize("text", ["a", "ab=c", "ab%c", "ab====", "äöü", "=", "data:image/png,abcd", "a,b"])
def test_what_is_not_base64(text):
    with pytest.raises(ValueError, match=r"."):
        decode_base64(text)
