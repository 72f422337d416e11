"""Tells how far a candidate agrees with the version that answers clients, and what both cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cpuserve.errors import ModelNotReady, UnknownModel
from cpuserve.protocols.call import Call, Reply, json_reply
from cpuserve.serving.pool import Pool
from cpuserve.serving.shadow import Shadow
from cpuserve.serving.shadow_counters import BUCKETS_NS, ShadowTotals

__all__ = ["ShadowRoutes", "shadow_metrics"]

_ROLES = ("stable", "candidate")
_RESULTS = ("compared", "silent", "failed", "shed")


class ShadowRoutes:
    """The report on a model's shadow, over all workers.

    Args:
        pool: the models of the worker that answers.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def report(self, _call: Call, model: str) -> Reply:
        """``GET /v2/models/MODEL/shadow``: agreement, latency and CPU time of both versions.

        Raises:
            UnknownModel: there is no such model, or it has no shadow.
            ModelNotReady: its shadow cannot be had; the reason is in the text.
        """
        name = self._pool.known(model).file.name
        choice = self._pool.rollouts.choices.get(name)
        if choice is None or choice.rollout.shadow is None:
            raise UnknownModel(f"model {name!r} has no shadow (setting shadow)")
        if choice.shadow is None:
            raise ModelNotReady(f"model {name!r} has no shadow now: {'; '.join(choice.problems)}")
        totals = self._pool.rollouts.shadow_counters.totals(choice.shadow.key)
        return json_reply(_report(name, choice.shadow, totals))


def _report(name: str, shadow: Shadow, totals: ShadowTotals) -> dict[str, Any]:
    counters = totals.counters
    agreement = None if totals.agreement is None else round(totals.agreement, 6)
    return {
        "model": name,
        "share": shadow.share,
        "agreement": agreement,
        "compares": totals.what if counters["compared"] else "",
        "requests": {result: counters[result] for result in _RESULTS},
        "answers": {key: counters[key] for key in ("answers", "missed", "invented")},
        **{
            role: {
                "version": str(version.version),
                "sha256": version.checksum,
                **_times(counters, role, buckets),
            }
            for role, version, buckets in (
                ("stable", shadow.stable, totals.stable_ns),
                ("candidate", shadow.candidate, totals.candidate_ns),
            )
        },
        "failure": totals.failure,
        "why_silent": "" if counters["compared"] or not counters["silent"] else totals.what,
    }


def _times(counters: dict[str, int], role: str, buckets: Sequence[int]) -> dict[str, float | None]:
    """Milliseconds a request; None while none was measured."""
    count = sum(buckets)
    if not count:
        return dict.fromkeys(("infer_ms", "infer_p50_ms", "infer_p99_ms", "cpu_ms"))
    return {
        "infer_ms": round(counters[f"{role}_infer_ns"] / count / 1e6, 3),
        "infer_p50_ms": _percentile(buckets, 0.5),
        "infer_p99_ms": _percentile(buckets, 0.99),
        "cpu_ms": round(counters[f"{role}_cpu_ns"] / count / 1e6, 3),
    }


def _percentile(buckets: Sequence[int], share: float) -> float:
    """The upper end of the bucket that a share of the requests does not exceed, milliseconds."""
    wanted, seen = share * sum(buckets), 0
    for end, count in zip((*BUCKETS_NS, BUCKETS_NS[-1]), buckets, strict=True):
        seen += count
        if seen >= wanted:
            return round(end / 1e6, 3)
    return round(BUCKETS_NS[-1] / 1e6, 3)


def shadow_metrics(pool: Pool) -> Iterator[tuple[str, str, str, list[tuple[str, float]]]]:
    """Name, kind, help text and samples of each metric about shadows."""
    found = [
        (name, choice.shadow, pool.rollouts.shadow_counters.totals(choice.shadow.key))
        for name, choice in sorted(pool.rollouts.choices.items())
        if choice.shadow is not None
    ]

    def label(name: str, shadow: Shadow) -> str:
        return f'name="{name}",version="{shadow.candidate.version}"'

    yield (
        *("cpuserve_shadow_requests_total", "counter"),
        "Copies of requests: compared, silent (nothing to compare), failed (no answer of the candidate) or "
        "shed (there was other work).",
        [
            (f'{label(name, shadow)},result="{result}"', totals.counters[result])
            for name, shadow, totals in found
            for result in _RESULTS
        ],
    )
    yield (
        *("cpuserve_shadow_agreement", "gauge"),
        "How far the candidate agrees with the version that answers clients, 0 to 1.",
        [
            (label(name, shadow), totals.agreement)
            for name, shadow, totals in found
            if totals.agreement is not None
        ],
    )
    for what, words in (("infer", "Inference time"), ("cpu", "CPU time")):
        yield (
            *(f"cpuserve_shadow_{what}_seconds_total", "counter"),
            f"{words} of the requests that were compared, by role: stable or candidate.",
            [
                (f'{label(name, shadow)},role="{role}"', totals.counters[f"{role}_{what}_ns"] / 1e9)
                for name, shadow, totals in found
                for role in _ROLES
            ],
        )
