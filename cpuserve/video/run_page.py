"""Shows what was promised of a cascade beside what was observed: a section of its report, and a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from cpuserve.reports.page import render
from cpuserve.video.audit_bound import AuditedRate, AuditState
from cpuserve.video.cascade_charts import STAGES, ObservedBar, observed_bar, share_bars
from cpuserve.video.observed_run import ObservedRun

if TYPE_CHECKING:
    from cpuserve.reports.drawing import Drawing
    from cpuserve.video.cascade_file import CascadePromise

__all__ = ["observed_section", "run_page"]

_MOST_NAMES = 3


def observed_section(promise: CascadePromise, runs: Sequence[ObservedRun]) -> Markup:
    """The section of the report on runs: bars of the latest one, and a row for each.

    Args:
        promise: of the cascade.
        runs: the latest first; at least one.
    """
    text = render(
        "cpuserve.video",
        "observed.html",
        bars=list(_bars(promise, runs[0])),
        rows=[_row(run) for run in runs],
        alarms=runs[0].alarms,
        latest=_named(runs[0]),
        promised=_promised(promise),
    )
    return Markup(text)  # noqa: S704  # the template has escaped what is in it


def run_page(query: str, promise: CascadePromise, run: ObservedRun) -> str:
    """The page of one run, while it goes on.

    Args:
        query: what the cascade answers.
        promise: of the cascade.
        run: what was observed so far.
    """
    state = "no audit" if run.state is None else run.state.name.lower()
    words = "nothing is observed" if run.state is None else run.state.value
    tiles = [
        ("Labelled", f"{run.frames:,}", "frames", f"{run.fps:.1f} a second"),
        (
            "With the object",
            f"{100 * run.positive / max(1, run.frames):.1f}",
            "%",
            f"{run.positive:,} frames",
        ),
        ("Reference", f"{100 * run.shares['reference']:.1f}", "%", "of the frames"),
        ("Audited", f"{run.audited:,}", "frames", "that were decided without it"),
        ("Budgets", state, "", f"{words}; {len(run.alarms)} alarms"),
        ("Dropped", f"{run.dropped:,}", "frames", "of live sources"),
    ]
    names = [name for _, name in STAGES]
    shares = [("who decides", [run.shares[name] for name in names])]
    return render(
        "cpuserve.video",
        "run.html",
        title=f"cpuserve video run: {query}",
        script="",
        query=query,
        about=f"{_named(run)} · {run.time[:19].replace('T', ' ')} UTC",
        tiles=tiles,
        shares=share_bars(shares, names, [colour for colour, _ in STAGES]),
        stages=[(f"{colour} series", name) for colour, name in STAGES],
        observed=observed_section(promise, [run]),
    )


def _promised(promise: CascadePromise) -> str:
    if not promise.promised:
        budgets = f"{promise.fn:.2%} missed and {promise.fp:.2%} falsely reported"
        return f"Nothing is promised. The budgets are {budgets}."
    return (
        f"Promised with a confidence of {promise.confidence:.0%}: at most {promise.fn_bound:.2%} of windows "
        f"missed, {promise.fp_bound:.2%} falsely reported."
    )


def _bars(promise: CascadePromise, run: ObservedRun) -> Iterator[Drawing]:
    for name, rate, budget, bound in (
        ("Missed (FN)", run.fn, promise.fn, promise.fn_bound),
        ("Falsely reported (FP)", run.fp, promise.fp, promise.fp_bound),
    ):
        if rate is not None:
            yield observed_bar(ObservedBar(name, rate, budget, bound if promise.promised else None))


def _row(run: ObservedRun) -> tuple[str, list[str]]:
    state = "no audit" if run.state is None else run.state.value
    if run.alarms:
        state += f", {len(run.alarms)} alarms"
    kind = "bad" if run.state is AuditState.BROKEN else ""
    cells = [run.time[:16].replace("T", " "), state, _named(run), f"{run.frames:,}"]
    return kind, [*cells, f"{run.shares['reference']:.1%}", f"{run.audited:,}", _rate(run.fn), _rate(run.fp)]


def _rate(rate: AuditedRate | None) -> str:
    if rate is None or rate.value is None:
        return "-"
    return f"{rate.value:.2%} ({rate.low:.2%} to {rate.high:.2%})"


def _named(run: ObservedRun) -> str:
    shown = ", ".join(name if "://" in name else Path(name).name for name in run.videos[:_MOST_NAMES])
    more = len(run.videos) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
