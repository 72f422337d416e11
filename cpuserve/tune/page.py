"""The report as one HTML file that asks nobody for anything: tables, and plots as SVG inside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from cpuserve.tune.conclusion import figures_words
from cpuserve.tune.curves import Curve
from cpuserve.tune.knob_effects import Effect
from cpuserve.tune.report import SearchReport, settings_words
from cpuserve.tune.style import STYLE
from cpuserve.tune.svg import Bar, Mark, bars, plot
from cpuserve.tune.trial import Point, Trial

__all__ = ["page"]

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>cpuserve tune: $title</title><style>$style</style></head><body>
<h1>Settings for $title</h1><p class="sub">$about</p>
<ul class="conclusion">$conclusion</ul>
$sections
</body></html>
""")

_COLOURS = {"helps": "good", "harmful": "bad"}


def page(report: SearchReport, conclusion: Sequence[str]) -> str:
    """The whole page.

    Args:
        report: the search.
        conclusion: its sentences, first on the page.
    """
    objective = report.objective
    words = [f"objective {objective.name}", *map(str, objective.constraints)]
    about = f"{report.machine} · {', '.join(words)} · {len(report.trials)} trials"
    sections = [
        _compared(report),
        _plots(report),
        _effects(report),
        _openmp(report),
        _trials(report),
    ]
    return _PAGE.substitute(
        title=escape(report.model),
        style=STYLE,
        about=escape(about),
        conclusion="".join(f"<li>{escape(line)}</li>" for line in conclusion),
        sections="\n".join(filter(None, sections)),
    )


def _compared(report: SearchReport) -> str:
    """The chosen settings beside the defaults and the hints."""
    if report.best is None:
        return ""
    rows = [("chosen", report.best, "", "")]
    for rival in report.rivals:
        verdict = "within noise" if rival.tie else "beyond noise"
        if rival.standing.point == report.best.point:
            rows.append((rival.name, rival.standing, "", "the same settings"))
        else:
            gain = f"{100 * rival.change:+.1f} % ± {100 * rival.noise:.1f}"
            rows.append((rival.name, rival.standing, gain, verdict))
    body = []
    for name, standing, gain, verdict in rows:
        figures = standing.trial.figures
        if figures is None:
            continue
        cells = [
            f"<td>{escape(name)}</td>",
            f'<td class="s">{escape(settings_words(standing.point))}</td>',
            *_numbers(
                f"{figures.images_per_s:.4g}",
                f"{figures.p50_ms:.3g}",
                f"{figures.p99_ms:.3g}",
                f"{figures.cpu_ms:.3g}",
                f"{figures.rss_mib:.0f}",
                f"{100 * standing.noise:.1f} %",
                gain,
            ),
            f'<td class="w">{verdict}</td>',
        ]
        row = '<tr class="best">' if name == "chosen" else "<tr>"
        body.append(row + "".join(cells) + "</tr>")
    title = f"gain, {report.objective.metric.title}"
    head = [
        "",
        "settings",
        *(f"+{h}" for h in ("images/s", "p50 ms", "p99 ms", "CPU ms", "MiB", "noise", title)),
        "",
    ]
    note = "Noise: the largest of the windows' spread, the spread of repeats and the drift of the defaults."
    return f'<h2>Chosen, defaults, hints</h2>{_table(head, body)}<p class="note">{note}</p>'


def _plots(report: SearchReport) -> str:
    figures = [f for f in (_pareto(report), _curve(report.batches, "max_batch", "images/s")) if f]
    p99 = _curve(report.batches, "max_batch", "p99 ms")
    cores = _curve(report.cores, "cores of a worker", "images/s of the whole machine")
    figures += [f for f in (p99, cores) if f]
    return (
        f'<h2>Throughput, latency, batch, cores</h2><div class="pair">{"".join(figures)}</div>'
        if figures
        else ""
    )


def _pareto(report: SearchReport) -> str:
    marks, best = [], report.best.point if report.best else None
    named: set[Point] = set()
    for trial in sorted(report.trials, key=lambda trial: _kind(trial, report) != "trial"):
        if trial.figures is None:
            continue
        kind, label = _kind(trial, report), ""
        if kind in {"default", "hint"} or trial.point == best:
            label = "" if trial.point in named else _label(trial, best)
            named.add(trial.point)
        tip = f"#{trial.number} {settings_words(trial.point)}: {figures_words(trial.figures)}"
        marks.append(Mark(trial.figures.p99_ms, trial.figures.images_per_s, kind, 0.0, label, tip))
    if not marks:
        return ""
    by_number = {trial.number: trial.figures for trial in report.trials if trial.figures is not None}
    line = [(by_number[number].p99_ms, by_number[number].images_per_s) for number in report.front]
    caption = "Every trial; the line joins those that no other beats in both. Up and to the left is better."
    return _figure(plot(marks, line, "p99 ms", "images/s"), caption)


def _kind(trial: Trial, report: SearchReport) -> str:
    if report.best is not None and trial.point == report.best.point:
        return "best"
    if not trial.point.knobs:
        return "default"
    if trial.reason.startswith("hint:"):
        return "hint"
    return "front" if trial.number in report.front else "trial"


def _label(trial: Trial, best: Point | None) -> str:
    name = "defaults" if not trial.point.knobs else trial.reason.removeprefix("hint:")
    if trial.point != best:
        return name
    return f"chosen = {name}" if not trial.point.knobs or trial.reason.startswith("hint:") else "chosen"


def _curve(curve: Curve, x_title: str, y_title: str) -> str:
    if not curve.spots:
        return ""
    late = y_title.startswith("p99")
    marks, line = [], []
    for spot in curve.spots:
        y = spot.figures.p99_ms if late else spot.figures.images_per_s
        tip = f"#{spot.trial}: {figures_words(spot.figures)}"
        marks.append(Mark(spot.x, y, "front", 0.0 if late else y * spot.figures.noise / 2, "", tip))
        line.append((spot.x, y))
    what = (
        "Everything else as chosen" if curve.alike else "The best trial of each value, other settings differ"
    )
    bars_words = "." if late else "; bars are the spread of the windows."
    steps = [spot.x for spot in curve.spots]
    return _figure(plot(marks, line, x_title, y_title, x_steps=steps), what + bars_words)


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>"


def _effects(report: SearchReport) -> str:
    if not report.effects:
        return ""
    rows, body = [], []
    for one in report.effects:
        telling = one.telling
        if telling is not None and not math.isnan(telling.change):
            kind = _COLOURS.get(telling.kind, "none")
            words = telling.words + (", by regression" if telling.method == "regression" else "")
            rows.append(
                Bar(f"{_short(one.knob)}={telling.value}", telling.change, telling.noise, kind, words)
            )
        body += [_effect_row(one.knob, value) for value in one.values]
        if not one.values:
            body.append(
                f'<tr><td>{escape(one.knob)}</td><td></td><td></td><td class="s">{escape(one.words)}</td>'
                + "<td></td>" * 4
                + "</tr>"
            )
    title = f"change of {report.objective.metric.title}"
    drawn = f"<figure>{bars(rows, title)}</figure>" if rows else ""
    head = ["knob", "value", "against", "verdict", "+change", "+noise", "method", "+pairs"]
    note = (
        "Pairs are trials that differ in this knob only; where there are none, a regression over all trials "
        "estimates it. A change smaller than the noise (grey) says nothing."
    )
    table = f"<details><summary>All values</summary>{_table(head, body)}</details>"
    return f'<h2>What each knob does</h2><p class="note">{note}</p>{drawn}{table}'


def _short(knob: str) -> str:
    return knob.removeprefix("env.")


def _effect_row(knob: str, effect: Effect) -> str:
    share = ["", ""]
    if not math.isnan(effect.change):
        share = [f"{100 * effect.change:+.1f} %", f"{100 * effect.noise:.1f} %"]
    colour = _COLOURS.get(effect.kind, "")
    return (
        f"<tr><td>{escape(knob)}</td><td>{escape(str(effect.value))}</td><td>{escape(str(effect.against))}</td>"
        f'<td class="s {colour}">{escape(effect.words)}</td>{"".join(_numbers(*share))}'
        f"<td>{effect.method}</td>{''.join(_numbers(str(effect.pairs or '')))}</tr>"
    )


def _openmp(report: SearchReport) -> str:
    if not report.openmp:
        return ""
    body = [
        "<tr>"
        + "".join(
            f'<td class="s">{escape(str(verdict[key]))}</td>'
            for key in ("process", "environment", "words", "why")
        )
        + "</tr>"
        for verdict in report.openmp
    ]
    note = "Measured by python -m benchmarks.openmp with a network of its own, not with this model."
    head = ["process", "environment", "verdict", "what was read back"]
    return f'<h2>OpenMP\'s variables</h2><p class="note">{note}</p>{_table(head, body)}'


def _trials(report: SearchReport) -> str:
    body = []
    for trial in report.trials:
        figures = trial.figures
        seen = (
            [""] * 7
            if figures is None
            else [
                f"{figures.images_per_s:.4g}",
                f"{figures.p50_ms:.3g}",
                f"{figures.p99_ms:.3g}",
                f"{figures.cpu_ms:.3g}",
                f"{figures.rss_mib:.0f}",
                f"{100 * figures.noise:.1f} %",
                f"{figures.foreign_cores:.2f}",
            ]
        )
        words = settings_words(trial.point) + (f" — {trial.error}" if trial.error else "")
        chosen = ' class="best"' if report.best is not None and trial.point == report.best.point else ""
        body.append(
            f'<tr{chosen}><td class="n">{trial.number}</td><td>{escape(trial.reason)}</td>'
            f'<td class="s">{escape(words)}</td>{"".join(_numbers(*seen, f"{trial.seconds:.0f}"))}</tr>'
        )
    numbers = ("images/s", "p50 ms", "p99 ms", "CPU ms", "MiB", "noise", "others, cores", "s")
    head = ["+#", "why", "settings", *(f"+{name}" for name in numbers)]
    return f"<h2>All trials</h2><details><summary>{len(body)} trials</summary>{_table(head, body)}</details>"


def _numbers(*cells: str) -> list[str]:
    return [f'<td class="n">{escape(cell)}</td>' for cell in cells]


def _table(head: Iterable[str], body: Iterable[str]) -> str:
    """A table; a ``+`` before a heading puts its column to the right."""
    kinds = {True: '<th class="n">', False: "<th>"}
    cells = "".join(f"{kinds[cell[:1] == '+']}{escape(cell.removeprefix('+'))}</th>" for cell in head)
    return f'<div class="wide"><table><tr>{cells}</tr>{"".join(body)}</table></div>'
