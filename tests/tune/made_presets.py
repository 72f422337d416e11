"""Keys, trials and presets made up for tests; nothing here was measured."""

from __future__ import annotations

from typing import Any

from cpuserve.tune.preset import Preset
from cpuserve.tune.preset_key import PresetKey
from cpuserve.tune.trial import Figures, Point, Trial

MACHINE: dict[str, Any] = {
    "cpu": "Some CPU",
    "flags": ["avx512_vnni", "avx512f", "avx2"],
    "cores": 8,
    "cpus": 8,
    "threads": 8,
    "kinds": "",
    "nodes": 1,
    "smt": False,
    "cache_bytes": 32 << 20,
    "governor": "",
}


def key(openvino: str = "1.0", ir: str = "aa", **machine: Any) -> PresetKey:
    """A key of model ``m``; what is given differs from `MACHINE`."""
    whole = MACHINE | machine
    return PresetKey(f"cpu-{whole['cores']}c", whole, openvino, {"m": ir})


def figures(images_per_s: float = 100.0, **more: Any) -> Figures:
    """Figures of a trial."""
    rest = {"p50_ms": 8.0, "p95_ms": 9.0, "p99_ms": 10.0, "cpu_ms": 5.0, "rss_mib": 200.0, "noise": 0.04}
    return Figures(images_per_s, **(rest | more))


def trial(number: int = 0, images_per_s: float = 100.0, facts: Any = None, **knobs: Any) -> Trial:
    """A trial that went well."""
    return Trial(number, Point.of(knobs), "search", figures(images_per_s, facts=facts or {}))


def preset(own: PresetKey | None = None, model: str = "m", **knobs: Any) -> Preset:
    """A preset with these knobs."""
    return Preset.of_trials(model, own or key(), trial(**knobs), command="cpuserve tune m")
