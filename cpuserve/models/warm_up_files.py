"""Finds the requests that lie beside a model in ``warmup/``, and the answers that are expected to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuserve.errors import ModelLoadError
from cpuserve.models.model_files import files_of
from cpuserve.models.version_files import entries_of

__all__ = [
    "WARM_UP",
    "WarmUpRequest",
    "expected_path",
    "read_warm_up_file",
    "warm_up_files_of",
    "warm_up_requests",
    "watched_files_of",
]

WARM_UP = "warmup"
"""The directory beside a model with requests that it answers before it serves."""

_EXPECTED = ".expected.json"


@dataclass(frozen=True)
class WarmUpRequest:
    """A request in the warm-up directory.

    Attributes:
        file: a picture, a tensor or a request of V2.
        expected: the file with the answer it has to get; None where any will do.
    """

    file: Path
    expected: Path | None


def warm_up_files_of(model: Path) -> list[Path]:
    """The files of the warm-up directory beside a model, sorted by name, without hidden ones.

    Raises:
        RepositoryError: the directory cannot be listed.
    """
    folder = model.parent / WARM_UP
    return [folder / name for name in entries_of(folder) if name[0] != "."]


def watched_files_of(model: Path) -> list[Path]:
    """The files whose change makes a version be loaded again: those of the model, and its warm-up.

    Raises:
        RepositoryError: the warm-up directory cannot be listed.
    """
    return [*files_of(model), *warm_up_files_of(model)]


def expected_path(file: Path) -> Path:
    """Where the answer that is expected to a request is kept."""
    return file.with_name(file.stem + _EXPECTED)


def warm_up_requests(files: Sequence[Path]) -> list[WarmUpRequest]:
    """The requests among the files of a warm-up directory, each with the answer that is expected.

    Raises:
        ModelLoadError: an expected answer belongs to no request, or to several.
    """
    answers = {file for file in files if file.name.endswith(_EXPECTED)}
    found = [
        WarmUpRequest(file, answer if (answer := expected_path(file)) in answers else None)
        for file in files
        if file not in answers
    ]
    for answer in sorted(answers):
        own = [one.file.name for one in found if one.expected == answer]
        if len(own) != 1:
            wanted = answer.name.removesuffix(_EXPECTED)
            there = (
                f"{' and '.join(own)} share it" if own else f"no request {wanted}.png or the like is there"
            )
            raise ModelLoadError(f"{answer} is the answer to one request, and {there}")
    return found


def read_warm_up_file(file: Path, max_bytes: int) -> bytes:
    """The content of a warm-up file.

    Raises:
        ModelLoadError: it cannot be read, or is larger than the body of a request may be.
    """
    try:
        size = file.stat().st_size
        if size > max_bytes:
            raise ModelLoadError(
                f"{file} has {size} bytes; a warm-up file may have {max_bytes} as the body of a request "
                "(setting max_body_bytes)"
            )
        return file.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"{file} cannot be read: {error.strerror}") from error
