"""Further names of a model, in the file `aliases` beside its versions."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from cpuserve.errors import RepositoryError

__all__ = ["MODEL_NAME", "owners_of_aliases", "read_aliases", "write_aliases"]

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What the name of a model, or an alias, looks like."""

_FILE = "aliases"
_MOST_BYTES = 1 << 16


def read_aliases(home: Path) -> tuple[str, ...]:
    """The aliases of a model, one a line of the file; lines that are no name count for nothing.

    Args:
        home: the directory of its versions.
    """
    try:
        with (home / _FILE).open("rb") as file:
            text = file.read(_MOST_BYTES).decode(errors="replace")
    except OSError:  # no such file, or one that is not for this user: the model has its own name
        return ()
    return tuple(line.strip() for line in text.splitlines() if MODEL_NAME.fullmatch(line.strip()))


def owners_of_aliases(homes: Mapping[str, Path]) -> dict[str, list[str]]:
    """The models that have each alias, sorted.

    Args:
        homes: the directory of versions by model.
    """
    owners: dict[str, list[str]] = {}
    for name in sorted(homes):
        for alias in {*read_aliases(homes[name])}:
            owners.setdefault(alias, []).append(name)
    return owners


def write_aliases(home: Path, aliases: Collection[str]) -> None:
    """Writes the aliases of a model, in place of those it had; nothing where it has these.

    Args:
        home: the directory of its versions.
        aliases: other names.

    Raises:
        RepositoryError: the directory cannot be written.
    """
    if {*read_aliases(home)} == {*aliases}:
        return
    fresh = home / f".{_FILE}"
    try:
        fresh.write_text("".join(f"{alias}\n" for alias in aliases), encoding="ascii")
        fresh.replace(home / _FILE)
    except OSError as error:
        raise RepositoryError(f"cannot write {home / _FILE}: {error.strerror}") from error
