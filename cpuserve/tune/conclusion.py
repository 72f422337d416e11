"""Writes the conclusions of a search as sentences."""

from __future__ import annotations

from collections.abc import Sequence

from cpuserve.tune.knob_effects import KnobEffects
from cpuserve.tune.report import SearchReport, settings_words
from cpuserve.tune.trial import Figures

__all__ = ["conclude", "figures_words"]

_MUCH_DRIFT = 0.1
_MUCH_FOREIGN = 0.25
_NAMED = 4
_ABOUT = {"regression": "about ", "pairs": "", "": ""}


def conclude(report: SearchReport) -> list[str]:
    """The sentences, the most important first."""
    return [
        *_chosen(report),
        *_against(report),
        *_knobs(report),
        *_not_tried(report.effects),
        *_trust(report),
    ]


def figures_words(figures: Figures) -> str:
    """``942 images/s, p99 4.1 ms, 2.0 CPU-ms an image, 310 MiB``."""
    return (
        f"{figures.images_per_s:.4g} images/s, p99 {figures.p99_ms:.3g} ms, "
        f"{figures.cpu_ms:.3g} CPU-ms an image, {figures.rss_mib:.0f} MiB"
    )


def _chosen(report: SearchReport) -> list[str]:
    best = report.best
    if best is None or best.trial.figures is None:
        first = report.trials[0].error
        return [f"Nothing was chosen: all {len(report.trials)} trials failed, the first with: {first}."]
    settings = settings_words(best.point)
    found = [f"Chosen: {settings} ({figures_words(best.trial.figures)})."]
    if not best.point.knobs:
        found[0] = (
            f"Chosen: the defaults; nothing that was tried beats them ({figures_words(best.trial.figures)})."
        )
    constraints = ", ".join(map(str, report.objective.constraints))
    if best.excess:
        found.append(f"No trial keeps {constraints}: this one breaks it least, by {100 * best.excess:.0f} %.")
    elif constraints:
        found.append(f"It keeps {constraints}.")
    return found


def _against(report: SearchReport) -> list[str]:
    title = report.objective.metric.title
    found = []
    for rival in report.rivals:
        if report.best is not None and rival.standing.point == report.best.point:
            if rival.standing.point.knobs:
                found.append(f"{rival.name[0].upper()}{rival.name[1:]} chooses the same settings.")
            continue
        change, noise = f"{100 * rival.change:+.1f} % {title}", f"{100 * rival.noise:.1f} %"
        if rival.standing.excess:
            found.append(f"Against {rival.name}: {change}; those break a constraint.")
        elif rival.tie:
            found.append(f"Against {rival.name}: {change}, which is within the noise of {noise}.")
        else:
            found.append(f"Against {rival.name}: {change}, beyond the noise of {noise}.")
    return found


def _knobs(report: SearchReport) -> list[str]:
    title = report.objective.metric.title
    strongest = [(one.knob, one.strongest) for one in report.effects if one.strongest is not None]

    def listed(kind: str) -> str:
        found = [
            f"{knob}={effect.value} ({_ABOUT[effect.method]}{100 * effect.change:+.1f} %)"
            for knob, effect in strongest
            if effect.kind == kind
        ]
        return ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")

    found = []
    if helpful := listed("helps"):
        found.append(f"What helps {title} most: {helpful}.")
    if harmful := listed("harmful"):
        found.append(f"What only harms: {harmful}.")
    depends = [knob for knob, effect in strongest if effect.kind == "depends"]
    if depends:
        found.append(f"What helps or harms, depending on the other settings: {', '.join(depends)}.")
    nothing = [knob for knob, effect in strongest if effect.kind == "no effect"]
    if nothing:
        found.append(f"No effect beyond noise: {', '.join(nothing)}.")
    by_words: dict[str, list[str]] = {}
    for one in report.effects:
        if one.known:
            by_words.setdefault(one.known, []).append(one.knob.removeprefix("env."))
    return found + [f"{', '.join(knobs)}: {words}." for words, knobs in by_words.items()]


def _not_tried(effects: Sequence[KnobEffects]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for one in effects:
        if one.strongest is None and not one.known:
            by_reason.setdefault(one.why.rstrip("."), []).append(one.knob)
    parts = [", ".join(knobs) + (f" ({why})" if why else "") for why, knobs in by_reason.items()]
    return [f"Not tried: {'; '.join(parts)}."] if parts else []


def _trust(report: SearchReport) -> list[str]:
    found = []
    drift = report.drift
    if drift is None:
        found.append("The defaults were measured once only: how far the machine drifted is not known.")
    else:
        words = (
            f"From the first to the last measurement of the defaults the figure moved by {100 * drift:+.1f} %"
        )
        much = abs(drift) > _MUCH_DRIFT
        found.append(words + (": tune again when the machine is quiet." if much else "."))
    figures = [trial.figures for trial in report.trials if trial.figures is not None]
    unstable = sum(not one.stable for one in figures)
    if unstable:
        found.append(f"{unstable} of {len(figures)} trials did not settle within their windows.")
    foreign = max((one.foreign_cores for one in figures), default=0.0)
    if foreign > _MUCH_FOREIGN:
        found.append(f"Other programs used up to {foreign:.1f} cores during windows that count.")
    failed = [trial for trial in report.trials if trial.figures is None]
    if failed and figures:
        found.append(
            f"{len(failed)} of {len(report.trials)} trials failed, the first with: {failed[0].error}."
        )
    return found
