"""Chooses the presets that fit and adds them to the settings. A bad preset never stops a start."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.launch import relaunch_environment
from cpuserve.machine.placement import plan_for_settings
from cpuserve.machine.topology import Topology
from cpuserve.models.repository import Repository
from cpuserve.serving.compile_properties import streams_and_threads
from cpuserve.settings import Settings
from cpuserve.tune.preset import LAYOUT, PER_MODEL, Preset
from cpuserve.tune.preset_key import IR, MACHINE, PresetKey
from cpuserve.tune.preset_store import PresetMatch, PresetStore, judge, read_preset
from cpuserve.tune.trial import Knob

__all__ = ["AppliedPresets", "Transfer", "apply_presets", "transfer_preset"]

_SHAPE = ("workers", "cores_per_worker", "use_logical_core")
"""How the seats are cut."""

_IN_A_SEAT = (
    *("threads", "streams", "inference_threads"),
    *("share_weights", "enable_cpu_pinning", "scheduling_core_type"),
)
"""What was chosen for seats of that shape."""

_ANSWERS = ("precision", "decode")
_COUNTS = frozenset({"cores", "cpus", "threads", "nodes"})
_KINDS = frozenset({"kinds", "smt"})


@dataclass(frozen=True)
class Transfer:
    """The settings of a preset that hold on this machine.

    Attributes:
        settings: the settings that hold here.
        environ: the variables that hold here.
        left_out: the other settings, each with the reason.
        scaled: how the seats were adapted; empty if they were not.
    """

    settings: Mapping[str, Knob]
    environ: Mapping[str, str]
    left_out: Mapping[str, str]
    scaled: str = ""


def transfer_preset(match: PresetMatch, here: Mapping[str, Any]) -> Transfer:
    """Decide which settings of a preset hold here.

    An exact one holds whole. Another OpenVINO changes no setting. For another model under the name what
    changes answers (``precision``, ``decode``) was never judged. Another instruction set computes in other
    precisions. On another number of cores seats keep their size and their number follows; with other kinds
    of core, or seats that do not fit, everything about them is left to the defaults.

    Args:
        match: a match with a preset.
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
        left |= dict.fromkeys((*_SHAPE, *_IN_A_SEAT), "the CPU has other kinds of core or siblings")
    elif differs & _COUNTS:
        size = _seat_cores(preset)
        if size and size <= here["cores"]:
            settings.pop("workers", None)
            settings["cores_per_worker"] = size
            scaled = f"seats of {size} cores as there, as many as fit"
        else:
            why = f"seats of {size} cores do not fit" if size else "seats were left to the defaults there"
            left |= dict.fromkeys((*_SHAPE, *_IN_A_SEAT), why)
    used = {name: value for name, value in settings.items() if name not in left}
    environ = {} if left.keys() & set(_IN_A_SEAT) else dict(preset.environ)
    return Transfer(used, environ, {name: why for name, why in left.items() if name in settings}, scaled)


def _seat_cores(preset: Preset) -> int | None:
    """Physical cores of a seat where the preset was made; None where that is not known or not even."""
    size = preset.settings.get("cores_per_worker")
    if size:
        return int(size)
    workers = int(preset.settings.get("workers") or 0)
    cores = int(preset.key.machine["cores"])
    return cores // workers if workers and cores % workers == 0 else None


def _layout_of(settings: Mapping[str, Knob]) -> dict[str, Any]:
    """Of some settings those that hold for the whole server."""
    return {name: value for name, value in settings.items() if name in LAYOUT}


_ORDER = ("exact", "stale", "nearest", "none")


@dataclass(frozen=True)
class AppliedPresets:
    """The settings with presets applied.

    Attributes:
        settings: the settings, with those of presets where nothing else sets them.
        environ: variables for the workers.
        document: the value of ``preset`` in ``/v2/placement``; None with ``--preset off``.
        said: lines for the log, each with its level.
    """

    settings: Settings
    environ: Mapping[str, str] = field(default_factory=dict)
    document: Mapping[str, Any] | None = None
    said: Sequence[tuple[int, str]] = ()


def apply_presets(
    settings: Settings, environ: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> AppliedPresets:
    """Find the presets of the served models and apply the settings that hold here.

    The layout (`_SHAPE`, threads, allocator, variables) comes from one preset: of those that fit best the one
    made for just the models that are served, else the one whose model costs most CPU a picture. A setting of
    the layout's shape that somebody gave keeps all of the layout out. What is in a seat (streams, threads)
    comes along for models whose own preset has the same shape.

    Args:
        settings: the settings in force without presets.
        environ: the user's variables, which override those of presets.
        root: where /sys and /proc are.
    """
    if settings.preset == "off":
        return AppliedPresets(settings)
    matches, refused, here = _matches(settings, root)
    said = [(logging.WARNING, f"preset: {line}") for line in refused]
    if not any(match.preset for match in matches.values()):
        said.append((logging.INFO, f"preset: none for {', '.join(matches)} ({_where(settings)})"))
        return AppliedPresets(settings, {}, {"match": "none", "refused": refused, "models": {}}, said)
    moved = {name: transfer_preset(match, here) for name, match in matches.items() if match.preset}
    leader = _leader(matches, moved)
    given = sorted(name for name in ("mode", *_SHAPE) if name in settings.origin)
    layout: dict[str, Any] = _layout_of(moved[leader].settings)
    variables = {
        name: text for name, text in moved[leader].environ.items() if environ.get(name, text) == text
    }
    try:
        relaunch_environment(layout.get("allocator", "none"), {}, environ)
    except CpuserveError as error:
        said.append((logging.WARNING, f"preset: its allocator is left out: {error}"))
        del layout["allocator"]
    if given:
        layout, variables = {}, {}
        words = ", ".join(f"{name} ({settings.origin[name]})" for name in given)
        said.append((logging.INFO, f"preset: its layout is left out, {words} says how the seats are cut"))
    made = _with(settings, layout, moved, leader, seated=not given)
    trouble = _trouble(made, matches, root)
    if trouble:
        said.append((logging.WARNING, f"preset: the layout does not fit and is left out: {trouble}"))
        layout, variables = {}, {}
        made = _with(settings, layout, moved, leader, seated=False)
    models = {}
    for name, one in moved.items():
        match = matches[name]
        models[name] = _model(name, match, one, made, leader)
        said.append(_line(name, match, models[name], one.scaled))
    document = {
        "match": max((matches[name].kind for name in moved), key=_ORDER.index),
        "layout_from": leader if layout else None,
        "layout": {name: getattr(made, name) for name in layout},
        "environ": variables,
        "models": models,
        "refused": refused,
    }
    return AppliedPresets(made, variables, document, said)


def _where(settings: Settings) -> str:
    return settings.preset if settings.preset != "auto" else f"tuning_dir {settings.tuning_dir}"


def _matches(settings: Settings, root: Path) -> tuple[dict[str, PresetMatch], list[str], Mapping[str, Any]]:
    """The preset of every model served, what is wrong with others, and this machine."""
    repository, store = Repository.of(settings), PresetStore(settings.tuning_dir)
    names = repository.names()
    if settings.preset != "auto":
        return _named(Path(settings.preset), repository, names, root)
    wanted = [name for name in names if store.files(name)]
    key = PresetKey.read(*(repository.find(name) for name in wanted), root=root)
    found = {name: store.find(name, key) if name in wanted else PresetMatch("none") for name in names}
    return found, [line for match in found.values() for line in match.refused], key.machine


def _named(
    file: Path, repository: Repository, names: Sequence[str], root: Path
) -> tuple[dict[str, PresetMatch], list[str], Mapping[str, Any]]:
    found = dict.fromkeys(names, PresetMatch("none"))
    try:
        preset = read_preset(file)
    except UsageError as error:
        return found, [str(error)], {}
    if preset.model not in found:
        return found, [f"{file} is not used: it is a preset of {preset.model}, which is not served"], {}
    key = PresetKey.read(repository.find(preset.model), root=root)
    found[preset.model] = judge(preset, file, key)
    return found, [], key.machine


def _leader(matches: Mapping[str, PresetMatch], moved: Mapping[str, Transfer]) -> str:
    """The model whose preset gives the layout."""

    def rank(name: str) -> tuple[int, bool, float]:
        match = matches[name]
        preset = match.preset
        if preset is None:
            return len(_ORDER), True, 0.0
        return _ORDER.index(match.kind), set(preset.models) != set(matches), -preset.measured.cpu_ms

    return min(moved, key=rank)


def _with(
    settings: Settings, layout: Mapping[str, Any], moved: Mapping[str, Transfer], leader: str, *, seated: bool
) -> Settings:
    """The settings with a layout and with what each model's preset adds."""
    shape = {name: moved[leader].settings.get(name) for name in _SHAPE}
    tuned = {}
    for model, one in moved.items():
        same = seated and {name: one.settings.get(name) for name in _SHAPE} == shape
        tuned[model] = {
            name: value
            for name, value in one.settings.items()
            if name in PER_MODEL and (same or name not in _IN_A_SEAT)
        }
    changes = {name: value for name, value in layout.items() if name not in settings.origin}
    origin = {**settings.origin, **dict.fromkeys(changes, "preset")}
    return dataclasses.replace(settings, **changes, tuned=tuned, origin=origin)


def _trouble(settings: Settings, names: Mapping[str, PresetMatch], root: Path) -> str:
    """Why these settings cannot be had on this machine; empty when they can."""
    try:
        for seat in plan_for_settings(Topology.read(root), Budget.read(root), settings).seats:
            for name in names:
                streams_and_threads(settings.for_model(name, {}), seat.threads, len(seat.cpus))
    except CpuserveError as error:
        return str(error)
    return ""


def _model(name: str, match: PresetMatch, one: Transfer, made: Settings, leader: str) -> dict[str, Any]:
    """What ``/v2/placement`` says of one model's preset."""
    preset = match.preset
    if preset is None:
        return {"match": match.kind}
    own = made.for_model(name, {})
    applied, left = {}, dict(one.left_out)
    for setting, value in one.settings.items():
        origin = own.origin.get(setting, "default")
        if origin == "preset" and getattr(own, setting) == value:
            applied[setting] = value
        elif origin not in ("preset", "default"):
            left[setting] = f"{origin} says {getattr(own, setting)}"
        else:
            left[setting] = "the seats are not of this preset's layout" + (
                f", but of {leader}'s" if name != leader else ""
            )
    exact = match.kind == "exact"
    return {
        "match": match.kind,
        "path": str(match.path),
        "machine": preset.key.fingerprint,
        "date": preset.date,
        "objective": preset.objective,
        "distance": match.distance,
        "differs": {word: {"preset": pair[0], "here": pair[1]} for word, pair in match.differs.items()},
        "applied": applied,
        "left_out": left,
        "expected" if exact else "measured_there": preset.expected(),
    }


def _line(name: str, match: PresetMatch, model: Mapping[str, Any], scaled: str) -> tuple[int, str]:
    """What the log says of one model's preset."""
    figures = model.get("expected") or model.get("measured_there") or {}
    words = ", ".join(f"{key} {value}" for key, value in model["applied"].items()) or "no setting"
    line = f"preset of {name}: {match.path}, {match.kind}"
    if match.kind != "exact":
        word = "another machine's" if match.kind == "nearest" else "stale"
        pairs = (f"{key} {there} there, {here} here" for key, (there, here) in match.differs.items())
        line += f" ({word}, distance {match.distance:g}): {'; '.join(pairs)}"
    line += f": applied {words}"
    line += f" ({scaled})" if scaled else ""
    if model["left_out"]:
        line += "; left out " + ", ".join(f"{key} ({why})" for key, why in model["left_out"].items())
    if match.kind == "exact":
        low, high = figures["images_per_s_low"], figures["images_per_s_high"]
        line += f"; expects {figures['images_per_s']:g} images/s ({low:g} to {high:g}), "
        return logging.INFO, line + f"p99 {figures['p99_ms']:g} ms"
    line += f"; it did {figures['images_per_s']:g} images/s there; `cpuserve tune {name}` measures here"
    return logging.WARNING, line
