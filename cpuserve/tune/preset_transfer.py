"""Which settings of a preset hold for this machine and model, and why others do not; it applies none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpuserve.tune.preset import LAYOUT, Preset
from cpuserve.tune.preset_key import IR, MACHINE
from cpuserve.tune.preset_store import PresetMatch
from cpuserve.tune.trial import Knob

__all__ = ["IN_A_SEAT", "SHAPE", "Transfer", "layout_of", "transfer_preset"]

SHAPE = ("workers", "cores_per_worker", "use_logical_core")
"""How the seats are cut."""

IN_A_SEAT = (
    *("threads", "streams", "inference_threads"),
    *("share_weights", "enable_cpu_pinning", "scheduling_core_type"),
)
"""What was chosen for seats of that shape."""

_ANSWERS = ("precision", "decode")
_COUNTS = frozenset({"cores", "cpus", "threads", "nodes"})
_KINDS = frozenset({"kinds", "smt"})


@dataclass(frozen=True)
class Transfer:
    """What is left of a preset.

    Attributes:
        settings: that hold.
        environ: that hold.
        left_out: the other settings, each with the reason.
        scaled: what became of the seats; empty where nothing did.
    """

    settings: Mapping[str, Knob]
    environ: Mapping[str, str]
    left_out: Mapping[str, str]
    scaled: str = ""


def transfer_preset(match: PresetMatch, here: Mapping[str, Any]) -> Transfer:
    """What holds of a preset that was found.

    An exact one holds whole. Another OpenVINO changes no setting. For another model under the name what
    changes answers (``precision``, ``decode``) was never judged. Another instruction set computes in other
    precisions. On another number of cores seats keep their size and their number follows; with other kinds
    of core, or seats that do not fit, everything about them is left to the defaults.

    Args:
        match: with a preset.
        here: this machine, as `MACHINE` names it.
    """
    preset = match.preset
    if preset is None:
        return Transfer({}, {}, {})
    left: dict[str, str] = {}
    if IR in match.differs:
        left |= dict.fromkeys(_ANSWERS, "the model is another one, its answers were not looked at with this")
    if "flags" in match.differs:
        left["precision"] = "the CPU has other instructions"
    settings, scaled = dict(preset.settings), ""
    differs = match.differs.keys() & MACHINE.keys()
    if differs & _KINDS:
        left |= dict.fromkeys((*SHAPE, *IN_A_SEAT), "the CPU has other kinds of core or siblings")
    elif differs & _COUNTS:
        size = _seat_cores(preset)
        if size and size <= here["cores"]:
            settings.pop("workers", None)
            settings["cores_per_worker"] = size
            scaled = f"seats of {size} cores as there, as many as fit"
        else:
            why = f"seats of {size} cores do not fit" if size else "seats were left to the defaults there"
            left |= dict.fromkeys((*SHAPE, *IN_A_SEAT), why)
    used = {name: value for name, value in settings.items() if name not in left}
    environ = {} if left.keys() & set(IN_A_SEAT) else dict(preset.environ)
    return Transfer(used, environ, {name: why for name, why in left.items() if name in settings}, scaled)


def _seat_cores(preset: Preset) -> int | None:
    """Physical cores of a seat where the preset was made; None where that is not known or not even."""
    size = preset.settings.get("cores_per_worker")
    if size:
        return int(size)
    workers = int(preset.settings.get("workers") or 0)
    cores = int(preset.key.machine["cores"])
    return cores // workers if workers and cores % workers == 0 else None


def layout_of(settings: Mapping[str, Knob]) -> dict[str, Any]:
    """Of some settings those that hold for the whole server."""
    return {name: value for name, value in settings.items() if name in LAYOUT}
