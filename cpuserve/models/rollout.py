"""What a model's versions are called, and which share of its requests a candidate gets: `Rollout`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.settings import Settings

__all__ = [
    "LABEL",
    "NO_ROLLOUT",
    "ROLLOUT_FILE",
    "ROLLOUT_KEYS",
    "CandidateVersion",
    "Rollout",
    "read_rollout_file",
]

ROLLOUT_FILE = "rollout.json"
"""The file beside a model's versions."""

ROLLOUT_KEYS = ("version_labels", "canary", "shadow")
"""The settings that a rollout is made of."""

LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
"""What a label may be; a version is a number."""

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_MOST_BYTES = 64 << 10
_HIGHEST = 10**18


@dataclass(frozen=True)
class CandidateVersion:
    """A version that gets a share of the requests that name no version.

    Attributes:
        version: its number, or its label.
        share: of the requests, 0 to 1.
        header: name in lower case of a header whose value decides, so that equal values get the same version;
            empty: each request is decided alone.
    """

    version: int | str
    share: float
    header: str = ""


@dataclass(frozen=True)
class Rollout:
    """The labels of a model's versions, and its candidates.

    Attributes:
        labels: version by label.
        canary: answers its share alone.
        shadow: answers its share too, for comparison; clients do not see its answers.
    """

    labels: Mapping[str, int] = field(default_factory=dict)
    canary: CandidateVersion | None = None
    shadow: CandidateVersion | None = None

    @classmethod
    def parse(cls, document: Mapping[str, Any], where: str) -> Rollout:
        """Read a rollout; what is null or empty counts as not given.

        Args:
            document: with the keys ``version_labels``, ``canary`` and ``shadow``, or some of them.
            where: it was read, for messages.

        Raises:
            UsageError: it is none; the message names the key.
        """
        if unknown := [key for key in document if key not in ROLLOUT_KEYS]:
            raise UsageError(
                f"{where}: unknown key {str(unknown[0])[:80]!r}; there are {', '.join(ROLLOUT_KEYS)}"
            )
        labels = _labels(document.get("version_labels"), where)
        canary, shadow = (_candidate(document.get(key), labels, key, where) for key in ("canary", "shadow"))
        if shadow is not None and shadow.header:
            raise UsageError(f"{where}: header is of the canary, not of the shadow")
        return cls(labels, canary, shadow)

    @classmethod
    def of(cls, settings: Settings, over: Mapping[str, Any], where: str) -> Rollout:
        """The rollout in force.

        Args:
            settings: as they hold for the model.
            over: keys that count before those of the settings.
            where: those were read.

        Raises:
            UsageError: one of them is wrong.
        """
        given: dict[str, Any] = {}
        for key in ROLLOUT_KEYS:
            text = getattr(settings, key)
            try:
                given[key] = json.loads(text) if text else None
            except ValueError as error:
                raise UsageError(f"setting {key}: {text[:80]!r} is not JSON: {error}") from error
        where = where if over else f"settings {', '.join(key for key in ROLLOUT_KEYS if given[key])}"
        return cls.parse({**given, **over}, where)

    def number(self, candidate: CandidateVersion | None) -> int | None:
        """The version of a candidate."""
        if candidate is None:
            return None
        return self.labels[candidate.version] if isinstance(candidate.version, str) else candidate.version

    @property
    def candidates(self) -> frozenset[int]:
        """Versions of the canary and the shadow."""
        numbers = (self.number(self.canary), self.number(self.shadow))
        return frozenset(one for one in numbers if one is not None)

    @property
    def versions(self) -> frozenset[int]:
        """Every version that is named."""
        return frozenset(self.labels.values()) | self.candidates


NO_ROLLOUT = Rollout()
"""That of a model without labels and candidates."""


def read_rollout_file(home: Path) -> dict[str, Any]:
    """The keys of the file beside a model's versions; none where there is no file.

    Raises:
        UsageError: it cannot be read, or is no JSON object.
    """
    file = home / ROLLOUT_FILE
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    if len(text) > _MOST_BYTES:
        raise UsageError(f"{file} has more than {_MOST_BYTES} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{file} is no JSON object with {', '.join(ROLLOUT_KEYS)}")
    return document


def _labels(sent: Any, where: str) -> dict[str, int]:
    if sent is None:
        return {}
    if not isinstance(sent, Mapping):
        raise UsageError(f'{where}: version_labels is an object such as {{"stable": 1}}, not {sent!r:.80}')
    for label, version in sent.items():
        if not isinstance(label, str) or not LABEL.fullmatch(label):
            raise UsageError(
                f"{where}: label {label!r:.80} is refused: it is 1 to 64 letters, digits, '.', '_' or '-' "
                "and begins with a letter"
            )
        if not _is_version(version):
            raise UsageError(
                f"{where}: the version of label {label} is a whole number from 1, not {version!r:.80}"
            )
    return dict(sent)


def _is_version(sent: Any) -> bool:
    return type(sent) is int and 1 <= sent < _HIGHEST


def _candidate(sent: Any, labels: Mapping[str, int], key: str, where: str) -> CandidateVersion | None:
    if not sent and sent != 0:
        return None
    how = f'{key} is an object such as {{"version": 2, "share": 0.05}}'
    if not isinstance(sent, Mapping):
        raise UsageError(f"{where}: {how}, not {sent!r:.80}")
    if unknown := sent.keys() - {"version", "label", "share", "header"}:
        raise UsageError(f"{where}: {key} has no {min(map(str, unknown))[:80]!r}; {how}")
    given: list[Any] = [sent.get(name) for name in ("version", "label", "share", "header")]
    version, label, share, header = given
    if (version is None) == (label is None):
        raise UsageError(f"{where}: {key} has either a version or a label; {how}")
    if label is not None and label not in labels:
        raise UsageError(
            f"{where}: {key} has the label {label!r:.80}; labels are: {', '.join(labels) or 'none'}"
        )
    if label is None and not _is_version(version):
        raise UsageError(f"{where}: the version of {key} is a whole number from 1, not {version!r:.80}")
    if type(share) not in (int, float) or not 0 <= share <= 1:
        raise UsageError(f"{where}: the share of {key} is a number from 0 to 1, not {share!r:.80}")
    if header is not None and not (isinstance(header, str) and _HEADER.fullmatch(header)):
        raise UsageError(f"{where}: the header of {key} is the name of a header, not {header!r:.80}")
    return CandidateVersion(version if label is None else label, float(share), (header or "").lower())
