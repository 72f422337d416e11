"""Reads tables of TOML as the dataclasses that declare them, and refuses what does not fit by name."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cpuserve.errors import UsageError

__all__ = ["read_typed", "without_none"]


def without_none(value: Any) -> Any:
    """A document without what is None, which TOML cannot say."""
    if isinstance(value, dict):
        return {key: without_none(one) for key, one in value.items() if one is not None}
    return [without_none(one) for one in value] if isinstance(value, tuple) else value


def read_typed(kind: Any, value: Any, where: str) -> Any:
    """A value of TOML as the type a field is declared with.

    Raises:
        UsageError: it has another type, or a table has keys that are unknown or missing.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return read_typed(parts[0], value, where)  # the other one is None, which is an absent key
    if origin is Literal:
        if value not in parts:
            raise UsageError(f"{where} is {value!r}, not one of {', '.join(parts)}")
        return value
    if dataclasses.is_dataclass(kind):
        return _table(kind, value, where)
    if origin is tuple and isinstance(value, list):
        if parts[-1] is not Ellipsis and len(value) != len(parts):
            raise UsageError(f"{where} has {len(value)} values, not {len(parts)}")
        return tuple(read_typed(parts[0], one, f"{where}[{place}]") for place, one in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: read_typed(parts[1], one, f"{where}.{key}") for key, one in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UsageError(f"{where} is {value!r}, not a value of type {getattr(kind, '__name__', kind)}")
    return value


def _table(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {value!r}, not a table")
    hints, known = get_type_hints(kind), {one.name: one for one in dataclasses.fields(kind)}
    prefix = f"{where}." if where else ""
    if unknown := sorted(set(value) - set(known)):
        raise UsageError(f"{prefix}{unknown[0]} is unknown; known are {', '.join(known)}")
    absent = [
        name
        for name, one in known.items()
        if name not in value
        and one.default is dataclasses.MISSING
        and one.default_factory is dataclasses.MISSING
    ]
    if absent:
        raise UsageError(f"{prefix}{absent[0]} is missing")
    try:
        return kind(**{name: read_typed(hints[name], one, prefix + name) for name, one in value.items()})
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
