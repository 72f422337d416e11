"""Runs all rules over a recording and sorts what they find, the gravest first."""

from __future__ import annotations

from cpuserve.profiling.finding import Case, FindingRule, ProfileFinding
from cpuserve.profiling.recording import Recording
from cpuserve.profiling.rules import decode, load, model, threads
from cpuserve.profiling.stacks import hottest
from cpuserve.profiling.summary import Summary, summarise

__all__ = ["RULES", "find"]

RULES: tuple[FindingRule, ...] = (*decode.RULES, *threads.RULES, *model.RULES, *load.RULES)

_ORDER = ("high", "medium", "low")


def find(recording: Recording, sums: Summary | None = None) -> list[ProfileFinding]:
    """Look for what is worth changing on a server.

    Args:
        recording: of the server.
        sums: its summary, where the caller has it already.

    Returns:
        The gravest first; among equals, the largest expected gain first.
    """
    case = Case(recording, sums or summarise(recording), tuple(hottest(recording.stacks)))
    found = [finding for rule in RULES if (finding := rule(case)) is not None]
    return sorted(found, key=lambda one: (_ORDER.index(one.severity), -(one.expected_factor or 0.0)))
