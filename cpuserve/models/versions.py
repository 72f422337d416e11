"""Chooses the versions of a model that are served, by OpenVINO Model Server's ``model_version_policy``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpuserve.errors import UsageError

__all__ = ["VersionPolicy"]

_HOW = (
    "latest, latest:N, all, specific:1,2, or OpenVINO Model Server's JSON such as "
    '{"latest": {"num_versions": 2}}'
)


@dataclass(frozen=True)
class VersionPolicy:
    """The versions that are wanted.

    Attributes:
        count: how many of the newest; None for all.
        only: these versions and no others; None for any.
    """

    count: int | None = 1
    only: frozenset[int] | None = None

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """Read a policy.

        Raises:
            UsageError: it is not a policy; the message lists those there are.
        """
        words = text.strip()
        if words.startswith("{"):
            words = _from_json(words)
        if words == "all":
            return cls(count=None)
        if words == "latest":
            return cls()
        if found := re.fullmatch(r"latest:([1-9][0-9]*)", words):
            return cls(count=int(found[1]))
        if re.fullmatch(r"specific:[1-9][0-9]*(,[1-9][0-9]*)*", words):
            return cls(count=None, only=frozenset(map(int, words.removeprefix("specific:").split(","))))
        raise UsageError(f"model_version_policy {text!r} is not {_HOW}")

    def document(self) -> dict[str, Any]:
        """The policy in the words that OpenVINO Model Server and Triton share."""
        if self.only is not None:
            return {"specific": {"versions": sorted(self.only)}}
        return {"all": {}} if self.count is None else {"latest": {"num_versions": self.count}}

    def newest(self, there: Sequence[int]) -> int | None:
        """The newest version that is wanted; None for none."""
        return next(iter(self.candidates(there)), None)

    def candidates(self, there: Sequence[int]) -> list[int]:
        """Versions to try, newest first; the caller stops when ``count`` of them are ready."""
        return sorted(
            (version for version in there if self.only is None or version in self.only), reverse=True
        )


def _from_json(text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        return text
    match document:
        case {"all": {}} if len(document) == 1:
            return "all"
        case {"latest": {"num_versions": int(count)}} if len(document) == 1:
            return f"latest:{count}"
        case {"specific": {"versions": list(versions)}} if len(document) == 1:
            return "specific:" + ",".join(map(str, versions))
    return text
