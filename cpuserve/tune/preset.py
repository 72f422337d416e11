"""A preset: the best settings found for a model on a machine, with their figures."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.settings import SETTINGS
from cpuserve.tune.preset_key import PresetKey
from cpuserve.tune.trial import Figures, Knob, Trial

__all__ = ["LAYOUT", "PER_MODEL", "Preset"]

LAYOUT = ("workers", "cores_per_worker", "use_logical_core", "threads", "allocator")
"""Settings of a preset that hold for the whole server: how the seats are cut and filled."""

PER_MODEL = (
    *("precision", "decode", "max_batch", "max_queue_delay_us"),
    *("streams", "inference_threads", "share_weights", "enable_cpu_pinning", "scheduling_core_type"),
)
"""Settings of a preset that hold for its model."""

_SCHEMA = 1
_ENVIRON = re.compile(r"(OMP|KMP|GOMP|MKL|OPENBLAS)_[A-Z0-9_]+")
_LARGEST = 1e15
_COUNTED = ("NUM_STREAMS", "INFERENCE_NUM_THREADS")
_BOOLS = {"True": True, "False": False}


@dataclass(frozen=True)
class Preset:
    """What tuning found for a model.

    Attributes:
        model: the model it is for.
        models: all models that were served together when it was measured.
        mix: requests for each of them in turn.
        key: the machine, OpenVINO and models it was measured with.
        settings: of `LAYOUT` and `PER_MODEL`, by name; settings that are absent were best at their default.
        environ: OpenMP's and BLAS's variables of the workers.
        properties: OpenVINO's of one process that would use the machine alone, as one that knows no workers
            (benchmark_app, OpenVINO Model Server) takes them.
        measured: the figures with these settings.
        defaults: the figures with the default settings.
        runner_up: the next best point, its figures, and what it ``lost``, as parts of the best one's.
        objective: what was optimised, such as ``throughput``.
        constraints: such as ``p99_ms<=50``.
        level: ``http`` or ``engine``.
        command: the command line.
        date: ISO 8601.
    """

    model: str
    models: tuple[str, ...]
    mix: tuple[int, ...]
    key: PresetKey
    settings: Mapping[str, Knob]
    environ: Mapping[str, str]
    properties: Mapping[str, Any]
    measured: Figures
    defaults: Figures | None = None
    runner_up: Mapping[str, Any] | None = None
    objective: str = "throughput"
    constraints: tuple[str, ...] = ()
    level: str = "http"
    command: str = ""
    date: str = ""

    @classmethod
    def of_trials(
        cls,
        model: str,
        key: PresetKey,
        best: Trial,
        *,
        runner_up: Trial | None = None,
        default: Trial | None = None,
        models: Sequence[str] = (),
        mix: Sequence[int] = (),
        objective: str = "throughput",
        constraints: Sequence[str] = (),
        level: str = "http",
        command: str = "",
    ) -> Preset:
        """The preset of a finished search, with the current date.

        Args:
            model: the model it is for.
            key: the key of all models that were served together.
            best: the trial with the best settings; it has figures.
            runner_up: the next best one that has figures.
            default: the trial of the default settings.
            models: the models that were served together; empty for this one alone.
            mix: requests for each of them in turn; empty for one each.
            objective: what was optimised.
            constraints: limits that had to be kept.
            level: ``http`` or ``engine``.
            command: the command line; directories are removed from it.

        Raises:
            UsageError: the best trial failed, or holds what no preset may set.
        """
        if best.figures is None:
            raise UsageError(f"trial {best.number} failed, no preset can be made of it: {best.error}")
        together = tuple(models) or (model,)
        return cls(
            model=model,
            models=together,
            mix=tuple(mix) or (1,) * len(together),
            key=key,
            settings=_checked_settings(best.point.settings()),
            environ=_checked_environ(best.point.environ()),
            properties=_whole_machine(best.figures, model),
            measured=best.figures,
            defaults=default.figures if default else None,
            runner_up=None if runner_up is None else _beside(best.figures, runner_up),
            objective=objective,
            constraints=tuple(constraints),
            level=level,
            command=" ".join(Path(word).name if "/" in word else word for word in command.split()),
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    @classmethod
    def from_json(cls, content: Any) -> Preset:
        """What `to_json` wrote.

        Raises:
            UsageError: it is no preset, another version's, or holds what no preset may set.
        """
        if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
            raise UsageError(f'it is no preset with "schema": {_SCHEMA}')
        try:
            models = tuple(map(str, content["models"]))
            return cls(
                model=str(content["model"]),
                models=models,
                mix=_mix(content["mix"], models),
                key=PresetKey.from_json(content["key"]),
                settings=_checked_settings(content["settings"]),
                environ=_checked_environ(content["environ"]),
                properties=dict(content["config"]["CPU"]),
                measured=_figures(content["measured"]),
                defaults=_figures(content["defaults"]) if content.get("defaults") else None,
                runner_up=content.get("runner_up"),
                objective=str(content["objective"]),
                constraints=tuple(map(str, content["constraints"])),
                level=str(content["level"]),
                command=str(content["command"]),
                date=str(content["date"]),
            )
        except KeyError as error:
            raise UsageError(f"it has no {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"a value has the wrong type: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON."""
        document = asdict(self)
        properties = document.pop("properties")
        return {
            "schema": _SCHEMA,
            **document,
            "config": {"CPU": properties},
            "expected": self.expected(),
        }

    def expected(self) -> dict[str, float]:
        """The figures that a server with this preset should reach under the same load.

        ``images_per_s`` with ``images_per_s_low`` and ``_high`` half the noise away, ``p50_ms``, ``p99_ms``,
        ``cpu_ms`` and ``rss_mib``. Of models that were served together each has its part of the images.
        """
        seen = self.measured
        share = dict(zip(self.models, self.mix, strict=True)).get(self.model, 1) / sum(self.mix)
        rate, half = share * seen.images_per_s, share * seen.images_per_s * seen.noise / 2
        return {
            "images_per_s": round(rate, 2),
            "images_per_s_low": round(rate - half, 2),
            "images_per_s_high": round(rate + half, 2),
            **{name: round(getattr(seen, name), 3) for name in ("p50_ms", "p99_ms", "cpu_ms", "rss_mib")},
        }


def _checked_settings(settings: Any) -> dict[str, Knob]:
    unknown = sorted(set(settings) - {*LAYOUT, *PER_MODEL} & set(SETTINGS))
    if unknown:
        raise UsageError(
            f"{unknown[0]} is nothing a preset may set; it may set {', '.join((*LAYOUT, *PER_MODEL))}"
        )
    return {name: SETTINGS[name].parse(value, "preset") for name, value in dict(settings).items()}


def _checked_environ(environ: Any) -> dict[str, str]:
    wrong = sorted(
        name for name, text in environ.items() if not _ENVIRON.fullmatch(name) or "\0" in str(text)
    )
    if wrong:
        raise UsageError(f"{wrong[0]} is no variable of OpenMP or BLAS, which are all that a preset may set")
    return {name: str(value) for name, value in dict(environ).items()}


def _mix(content: Any, models: Sequence[str]) -> tuple[int, ...]:
    mix = tuple(map(int, content))
    if len(models) != len(mix) or min(mix, default=0) < 1:
        raise ValueError(f"mix {mix} is no whole number from 1 for each of {', '.join(models) or 'no model'}")
    return mix


def _figures(content: Any) -> Figures:
    numbers = {name: value for name, value in dict(content).items() if name not in ("facts", "stable")}
    if not all(isinstance(value, (int, float)) and abs(value) < _LARGEST for value in numbers.values()):
        raise TypeError("a figure is no number")
    return Figures(**content)


def _beside(best: Figures, other: Trial) -> dict[str, Any] | None:
    """Another trial, and what it lost: each figure's change as a part of the best one's."""
    if other.figures is None:
        return None
    names = ("images_per_s", "p50_ms", "p95_ms", "p99_ms", "cpu_ms", "rss_mib")
    lost = {
        name: round(getattr(other.figures, name) / getattr(best, name) - 1, 4)
        for name in names
        if getattr(best, name)
    }
    return {
        "settings": other.point.settings(),
        "environ": other.point.environ(),
        "measured": asdict(other.figures),
        "lost": lost,
    }


def _whole_machine(figures: Figures, model: str) -> dict[str, Any]:
    """What was in force in one worker, times the workers: for a process that knows no seats."""
    workers = int(figures.facts.get("workers", 1))
    one: Mapping[str, str] = figures.facts.get("properties", {}).get(model, {})
    found: dict[str, Any] = {
        name: int(value) * workers if name in _COUNTED else _BOOLS.get(value, value)
        for name, value in one.items()
        if name.isupper()  # the rest is cpuserve's
    }
    if found and workers > 1:
        found["ENABLE_CPU_PINNING"] = True  # what seats do for their workers
    return found
