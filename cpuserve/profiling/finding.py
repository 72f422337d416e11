"""Defines rules, what they look at, and their findings: what was seen, the setting to change, the gain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cpuserve.profiling.recording import Recording
from cpuserve.profiling.stacks import HotFunction
from cpuserve.profiling.summary import Summary
from cpuserve.profiling.thread_times import ThreadTimes

__all__ = ["Case", "FindingRule", "ProfileFinding", "Severity", "percent", "rule"]

Severity = Literal["high", "medium", "low"]


@dataclass(frozen=True)
class Case:
    """What a rule looks at.

    Attributes:
        recording: what was recorded.
        summary: its sums.
        hot: Python functions, the one with most samples first.
    """

    recording: Recording
    summary: Summary
    hot: tuple[HotFunction, ...] = ()

    def setting(self, name: str) -> Any:
        """A setting of the server; None where it is not known."""
        return self.recording.settings.get(name)

    @property
    def own_load(self) -> bool:
        """Whether the load is that of the profile itself, of which nothing can be learned about clients."""
        return bool(self.recording.load.get("own"))

    @property
    def made_up_picture(self) -> bool:
        """Whether the picture was generated, so that nothing can be learned about pictures."""
        return bool(self.recording.load.get("made_up"))

    @property
    def cpus(self) -> int:
        """CPUs that the server may use."""
        return self.summary.utilisation.count("CPUs")

    @property
    def spare_cpus(self) -> float:
        """How many of these the server left unused."""
        return max(0.0, self.cpus - self.summary.cpu.total / (self.summary.window.seconds or 1.0))

    @property
    def headroom(self) -> float:
        """The factor by which throughput could grow until the CPUs are full.

        That is the CPUs that other programs leave, over those that the server and its clients use now.
        """
        load = self.recording.load
        machine: Mapping[str, Any] = self.recording.placement.get("machine") or {}
        # on a machine of more CPUs others may run beside the server
        others = float(load.get("foreign_cores") or 0.0) if machine.get("cpus") == self.cpus else 0.0
        cost = self.cpus - self.spare_cpus + float(load.get("client_cores") or 0.0)
        return max(1.0, (self.cpus - others) / cost) if cost else float(self.cpus)

    @property
    def workers(self) -> dict[int, list[ThreadTimes]]:
        """The threads that serve or infer, by process."""
        found: dict[int, list[ThreadTimes]] = defaultdict(list)
        for busy in self.summary.threads:
            if busy.track.role in ("serve", "openvino"):
                found[busy.track.pid].append(busy)
        return found

    @property
    def flags(self) -> frozenset[str]:
        """The instruction sets of the processor that matter to inference."""
        machine: Mapping[str, Any] = self.recording.placement.get("machine") or {}
        return frozenset(machine.get("flags") or ())


@dataclass(frozen=True)
class ProfileFinding:
    """One thing worth changing, or worth knowing.

    Attributes:
        severity: ``high`` costs more than half of what the machine could do, ``medium`` a good part of it,
            ``low`` is worth knowing.
        text: what was seen, with its numbers.
        setting: the name in docs/settings.md, or what else is to be changed: ``client``, ``model``,
            ``container``, ``machine``, ``profile``, or a variable of the environment.
        change: what to do to it.
        expected_factor: of throughput after the change; None where nothing is promised.
        rule: name of the rule that found it.
    """

    severity: Severity
    text: str
    setting: str
    change: str
    expected_factor: float | None = None
    rule: str = ""

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        expected = f"; expected {self.expected_factor:.1f}x" if self.expected_factor else ""
        return f"{self.text}: {self.change}{expected}"

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True)
class FindingRule:
    """Finds one kind of problem.

    Attributes:
        name: short, of words and hyphens.
        settings: what its findings may ask to change.
        judge: looks at a case; gives None where all is well.
    """

    name: str
    settings: tuple[str, ...]
    judge: Callable[[Case], ProfileFinding | None]

    @property
    def summary(self) -> str:
        """The first line of its docstring: what it finds."""
        return (self.judge.__doc__ or "").strip().splitlines()[0]

    def __call__(self, case: Case) -> ProfileFinding | None:
        """Look at a case."""
        found = self.judge(case)
        return None if found is None else replace(found, rule=self.name)


def rule(name: str, *settings: str) -> Callable[[Callable[[Case], ProfileFinding | None]], FindingRule]:
    """Makes a `FindingRule` from a function."""
    return lambda judge: FindingRule(name, settings, judge)


def percent(share: float) -> str:
    """A share in percent: ``98 %``."""
    return f"{share:.0%}".replace("%", " %")
