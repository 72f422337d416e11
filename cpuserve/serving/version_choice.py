"""Decides which version of a model answers a request: by label, by a canary's share, or the default."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from cpuserve.models.rollout import CandidateVersion, Rollout
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.shadow import Shadow
from cpuserve.serving.version_loader import ModelState

__all__ = ["VersionChoice", "newest_ready"]

STABLE = "stable"
"""The label of the version that answers what a candidate does not."""


def newest_ready(versions: Mapping[int, ModelState]) -> ModelState | None:
    """The newest version that answers; None where none does."""
    newest = None
    for number, model in versions.items():
        if model.pipeline is not None and (newest is None or number > newest):
            newest = number
    return None if newest is None else versions[newest]


@dataclass(frozen=True)
class VersionChoice:
    """Which versions of a model answer, as long as its rollout and its versions stay as they are.

    Attributes:
        rollout: what is wanted.
        default: answers requests without a version; None while no version does.
        labels: version by label. A label whose new version is not ready stays with the one before.
        canary: answers its share of the requests without a version; None where there is none that is ready.
        shadow: has a candidate answer copies; None where there is none that is ready.
        problems: what of the rollout cannot be had, and what is done instead.
    """

    rollout: Rollout
    default: ModelState | None
    labels: Mapping[str, int] = field(default_factory=dict)
    canary: Pipeline | None = None
    problems: tuple[str, ...] = ()
    shadow: Shadow | None = None

    @classmethod
    def of(
        cls, rollout: Rollout, versions: Mapping[int, ModelState], before: Mapping[str, int]
    ) -> VersionChoice:
        """Choose.

        Args:
            rollout: what is wanted.
            versions: of the model, by number.
            before: the labels as they were.
        """
        problems = []
        ready = {number for number, model in versions.items() if model.pipeline is not None}
        labels = {}
        for label, wanted in rollout.labels.items():
            former = before.get(label)
            labels[label] = (
                former if wanted not in ready and former is not None and former in ready else wanted
            )
            if wanted not in ready:
                kept = f"; it stays with version {former}" if labels[label] != wanted else ""
                problems.append(f"label {label}: version {wanted} {_why_not(versions, wanted)}{kept}")
        others = {number: model for number, model in versions.items() if number not in rollout.candidates}
        default = newest_ready(others) or newest_ready(versions)
        if rollout.candidates and labels.get(STABLE) in ready:
            default = versions[labels[STABLE]]
        number = rollout.number(rollout.canary)
        canary = None if number not in ready or number is None else versions[number].pipeline
        if number is not None and canary is None:
            answers = f"version {default.file.version} answers all" if default is not None else "none answers"
            problems.append(f"canary: version {number} {_why_not(versions, number)}; {answers}")
        number = rollout.number(rollout.shadow)
        if number is not None and number not in ready:
            problems.append(f"shadow: version {number} {_why_not(versions, number)}")
        elif number is not None and default is not None and default.file.version == number:
            problems.append(f"shadow: there is no other version than {number}")
        return cls(rollout, default, labels, canary, tuple(problems))

    @property
    def canary_share(self) -> float:
        """The share that the canary answers, 0 where it is not ready."""
        return 0.0 if self.canary is None or self.rollout.canary is None else self.rollout.canary.share

    def pick(self, headers: Mapping[str, str]) -> Pipeline | None:
        """What answers a request without a version; None where nothing does.

        Args:
            headers: of the request, by name in lower case.
        """
        wanted = self.rollout.canary
        if self.canary is not None and wanted is not None and _is_chosen(wanted, headers):
            return self.canary
        if self.shadow is not None and self.shadow.takes():
            return self.shadow.pipeline
        return None if self.default is None else self.default.pipeline


def _why_not(versions: Mapping[int, ModelState], number: int) -> str:
    model = versions.get(number)
    if model is None:
        return "is not in the repository"
    return f"is not ready: {model.reason or 'still loading'}"


def _is_chosen(candidate: CandidateVersion, headers: Mapping[str, str]) -> bool:
    """Whether a request belongs to a candidate's share.

    Where the share grows, those who belonged to it still do.
    """
    value = headers.get(candidate.header) if candidate.header else None
    if value is None:
        return random.random() < candidate.share  # noqa: S311  # nothing depends on its secrecy
    digest = hashlib.blake2b(value.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < candidate.share * 2**64
