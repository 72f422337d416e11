"""Shows the hottest layers of the compiled model, and its time by type of operation; it measures nothing."""

from __future__ import annotations

from collections import defaultdict

from cpuserve.profiling.sections.view import View, escape, section, table

__all__ = ["hottest_layers"]

_SHOWN = 15


def hottest_layers(view: View) -> str:
    """A table with bars, the slowest first, and a summary by type."""
    layers = sorted(view.recording.layers, key=lambda layer: -layer.mean_us)
    total = sum(layer.mean_us for layer in layers)
    if not total:
        return ""
    most = layers[0].mean_us
    rows = [
        [
            f'<span class="name" title="{escape(layer.name)}">{escape(layer.name)}</span>',
            escape(layer.type),
            f"<code>{escape(layer.exec_type)}</code>",
            escape(layer.precision),
            _bar(layer.mean_us / most),
            f"{layer.mean_us:,.0f}",
            f"{layer.mean_us / total:.1%}",
        ]
        for layer in layers[:_SHOWN]
    ]
    by_type: dict[str, float] = defaultdict(float)
    for layer in layers:
        by_type[layer.type] += layer.mean_us
    kinds = ", ".join(
        f"{escape(kind)} {spent / total:.0%}"
        for kind, spent in sorted(by_type.items(), key=lambda item: -item[1])[:6]
        if spent / total >= 0.01
    )
    note = (
        f"{len(layers)} layers take {total / 1000:.2f} ms for a batch of {layers[0].batch}: {kinds}. "
        f"Shown are the slowest {min(_SHOWN, len(layers))}."
    )
    head = ["layer", "type", "kernel", "precision", "", "&micro;s", "share"]
    return section("Hottest layers", table(head, rows, left=5), note)


def _bar(share: float) -> str:
    return f'<div class="bar"><div style="width:{share:.1%}"></div></div>'
