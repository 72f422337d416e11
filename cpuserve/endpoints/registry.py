"""Reads which servers there are from a registry: a file, or an address that answers with the same."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError, UsageError

__all__ = ["is_registry", "read_registry", "urls_of"]

_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 22


def is_registry(word: str) -> bool:
    """Whether a word names a registry: ``@`` with a file or an address behind it."""
    return word.startswith("@")


def read_registry(word: str) -> list[str]:
    """The URLs of the servers that are ready, in order and each once.

    Args:
        word: ``@FILE`` or ``@http://HOST:PORT/endpoints``. Either is what ``cpuserve cluster status --json``
            prints, or has a URL a line.

    Raises:
        CpuserveError: it cannot be read, or is something else.
    """
    place = word[1:]
    try:
        if place.startswith(("http://", "https://")):
            with urllib.request.urlopen(place, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # the scheme is checked
                content = answer.read(_MOST_BYTES)
        else:
            content = Path(place).read_bytes()
        text = content.decode()
    except urllib.error.URLError as error:
        raise CpuserveError(f"the registry {place} does not answer: {error.reason}") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise CpuserveError(f"the registry {place} cannot be read: {error}") from error
    return list(dict.fromkeys(_urls_in(text, place)))


def urls_of(words: Sequence[str]) -> list[str]:
    """The URLs that words name, registries read once.

    Raises:
        UsageError: there is none.
        CpuserveError: a registry cannot be read.
    """
    plain = [word.strip().rstrip("/") for word in words if word.strip()]
    urls = [url for word in plain for url in (read_registry(word) if is_registry(word) else [word])]
    if not urls:
        raise UsageError(f"no server is named by {' '.join(words) or 'nothing'}")
    return urls


def _urls_in(text: str, place: str) -> list[str]:
    if not text.lstrip().startswith("{"):
        lines = [line.strip().rstrip("/") for line in text.splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        strange = next((line for line in found if "://" not in line), None)
        if strange is not None:
            raise CpuserveError(f"the registry {place} has a line that is no URL: {strange[:80]!r}")
        return found
    try:
        endpoints: list[Any] = json.loads(text)["endpoints"]
        return [str(one["url"]).rstrip("/") for one in endpoints if one["url"] and one.get("ready", True)]
    except (ValueError, KeyError, TypeError) as error:
        raise CpuserveError(f"the registry {place} has no list of endpoints ({error!r})") from error
