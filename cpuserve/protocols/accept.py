"""Chooses what to answer with by the ``Accept`` header."""

from __future__ import annotations

from collections.abc import Sequence

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

__all__ = ["best_offer"]


def best_offer(header: str, offers: Sequence[str]) -> str | None:
    """The offer that a client prefers, the first of several that it likes as much; None where it takes none.

    Parameters other than ``q``, such as a charset, change nothing. Of the ranges that an offer is in the most
    exact one counts.

    Args:
        header: the ``Accept`` header.
        offers: media types in lower case.
    """
    wanted = [
        (kind.partition(";")[0].strip().lower(), quality)
        for kind, quality in parse_accept_header(header, MIMEAccept)
    ]
    best, most = None, 0.0
    for offer in offers:
        quality = _quality(offer, wanted)
        if quality > most:
            best, most = offer, quality
    return best


def _quality(offer: str, wanted: Sequence[tuple[str, float]]) -> float:
    for kind in (offer, offer.partition("/")[0] + "/*", "*/*"):
        found = [quality for other, quality in wanted if other in (kind, "*" if kind == "*/*" else kind)]
        if found:
            return max(found)
    return 0.0
