"""What is known of one setting: its names, type, limits and help, and how text becomes its value."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

from cpuserve.errors import UsageError

__all__ = ["Group", "Setting", "described"]

T = TypeVar("T")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Group(StrEnum):
    """The sections of ``serve --help`` and of docs/settings.md, in their order."""

    NETWORK = "Network"
    SEATS = "Seats"
    MODELS = "Models"
    INFERENCE = "Inference"
    LIMITS = "Limits"
    SECURITY = "Security"
    LOGGING = "Logging and tracing"

    def setting(
        self,
        default: T,
        text: str,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        per_model: bool = False,
        ovms: str = "",
        formerly: str = "",
        metavar: str = "",
    ) -> T:
        """Declares a setting of this group as a field of a dataclass; `Setting` explains the arguments.

        The field's annotation is the setting's type. With ``None`` it may be "auto"; `Literal` lists choices.
        """
        more = {
            "group": self,
            "help": text,
            "minimum": minimum,
            "maximum": maximum,
            "per_model": per_model,
            "ovms": ovms,
            "formerly": formerly,
            "metavar": metavar,
        }
        return dataclasses.field(default=default, metadata={"setting": more})


@dataclass(frozen=True)
class Setting:
    """What is known of one setting.

    Attributes:
        name: key in settings files, and field of `Settings`.
        kind: type the text of an environment variable is turned into.
        default: value when nothing sets it; None means "decided on this machine".
        group: the section that help and docs show it in.
        help: a short text for ``--help`` and the docs, with the unit.
        choices: the words that are allowed, if only some are.
        minimum: the least number allowed.
        maximum: the largest number allowed.
        per_model: a settings file may also give it for one model, in ``[models.NAME]``.
        ovms: OpenVINO Model Server's flag for it, where that has another name.
        formerly: the name it had in the release before, which still works.
        metavar: what ``--help`` shows as its value; empty for the name of its type.
    """

    name: str
    kind: type
    default: Any
    group: Group
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    per_model: bool = False
    ovms: str = ""
    formerly: str = ""
    metavar: str = ""

    @property
    def former(self) -> Setting | None:
        """This setting under its former name."""
        return dataclasses.replace(self, name=self.formerly, formerly="") if self.formerly else None

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "CPUSERVE_" + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as ``--help`` and the docs write it."""
        if self.default is None:
            return "auto"
        return str(self.default).lower() if self.kind is bool else str(self.default) or "none"

    def parse(self, value: object, where: str) -> Any:
        """Turn ``value`` into this setting's type.

        Raises:
            UsageError: the value is not of that type, not one of the words, too small or too large.
        """
        try:
            parsed = self._convert(value)
        except (TypeError, ValueError, KeyError, OverflowError):
            raise UsageError(f"{where}: {self.name} takes {_ARTICLE[self.kind]}, not {value!r}") from None
        if self._is_path and isinstance(value, str) and _ADDRESS.match(value):
            raise UsageError(
                f"{where}: {self.name} takes a path of this machine, not the address {value}: copy it"
            )
        if self.choices and isinstance(parsed, str):
            parsed = parsed.lower()  # OpenVINO writes some of them in capitals
        if self.choices and parsed is not None and parsed not in self.choices:
            alike = difflib.get_close_matches(str(parsed), self.choices, n=1, cutoff=0.5)
            hint = f"; did you mean {alike[0]}?" if alike else ""
            raise UsageError(f"{where}: {self.name} is one of {', '.join(self.choices)}, not {value!r}{hint}")
        numbers = parsed if isinstance(parsed, tuple) else (parsed,)
        if self.minimum is not None and any(n is not None and n < self.minimum for n in numbers):
            raise UsageError(f"{where}: {self.name} is at least {self.minimum:g}, not {value!r}")
        if self.maximum is not None and any(n is not None and n > self.maximum for n in numbers):
            raise UsageError(f"{where}: {self.name} is at most {self.maximum:g}, not {value!r}")
        return parsed

    @property
    def _is_path(self) -> bool:
        return self.kind is Path or self.metavar in ("FILE", "PATH")

    def _convert(self, value: object) -> Any:
        if self.default is None and value == "auto":
            return None
        if self.kind is bool:
            return _BOOLS[value.lower() if isinstance(value, str) else value]
        if self.kind is tuple:
            return _numbers(value)
        if self.metavar == "JSON" and isinstance(value, Mapping):
            return json.dumps(value)
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
            raise TypeError
        parsed = self.kind(value)
        if isinstance(parsed, float) and not math.isfinite(parsed):
            raise ValueError  # no range excludes nan
        if isinstance(value, float) and parsed != value:
            raise ValueError  # a whole number would lose the fraction
        return parsed


def described(field: dataclasses.Field[Any], annotation: Any) -> Setting:
    """The setting that a field made by `Group.setting` declares.

    Args:
        field: the field.
        annotation: its type, resolved.
    """
    if isinstance(annotation, UnionType) or NoneType in get_args(annotation):
        (annotation,) = (one for one in get_args(annotation) if one is not NoneType)
    more = field.metadata["setting"]
    if get_origin(annotation) is Literal:
        return Setting(field.name, str, field.default, choices=get_args(annotation), **more)
    return Setting(field.name, get_origin(annotation) or annotation, field.default, **more)


def _numbers(value: object) -> tuple[int, ...]:
    """``0,1`` from the command line or the environment; a number or a list of them from a file."""
    parts: list[Any] = (
        value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    )
    if not parts or any(isinstance(part, (bool, float)) for part in parts):
        raise TypeError
    return tuple(sorted({int(part) for part in parts}))


_ARTICLE = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    Path: "a path",
    bool: "true or false",
    tuple: "whole numbers with commas between",
}
_BOOLS: Mapping[object, bool] = {
    True: True,
    "true": True,
    "1": True,
    False: False,
    "false": False,
    "0": False,
}
