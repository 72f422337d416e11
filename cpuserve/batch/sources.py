"""Finds the pictures and videos that a user names: files, folders, patterns, text lists and addresses."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from cpuserve.batch.remote_files import list_remote
from cpuserve.errors import UsageError
from cpuserve.serving.picture_files import PICTURE_ENDINGS, would_wait
from cpuserve.video.video_sources import VIDEO_ENDINGS

__all__ = ["BatchInput", "find_inputs", "is_remote", "local_path"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_LIST_ENDINGS = frozenset((".list", ".lst", ".txt"))
_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class BatchInput:
    """A picture or a video.

    Attributes:
        uri: as the user wrote it; of a file in a folder, the folder and its path there.
        is_video: whether it is one.
        size: bytes; -1 where it is not there or nobody says it.
        changed_ns: when it was changed, 0 where nobody says it.
    """

    uri: str
    is_video: bool
    size: int = _UNKNOWN
    changed_ns: int = 0


def find_inputs(arguments: Iterable[str]) -> list[BatchInput]:
    """The inputs that are named, in that order and each once; those of a folder by name.

    Args:
        arguments: each a picture, a video, a folder (of which all files with an ending of pictures or videos
            are taken, at any depth), a pattern such as ``day1/*.jpg``, a text list (``.txt``, ``.lst`` or
            ``.list`` with one of these a line; relative to the list's folder), or an address: ``file://``
            or another that fsspec knows.

    Raises:
        UsageError: there is no such file, a pattern fits none, a folder has no picture, or a video is not
            on this machine.
        MissingExtra: a package that an address needs is not installed.
    """
    found: dict[str, BatchInput] = {}
    for argument in arguments:
        for one in _named(argument):
            found.setdefault(one.uri, one)
    return list(found.values())


def is_remote(uri: str) -> bool:
    """Whether it is an address of something that is not a file of this machine."""
    return _ADDRESS.fullmatch(uri) is not None and urlsplit(uri).scheme.lower() != "file"


def local_path(uri: str, folder: Path) -> Path:
    """The path of an input of this machine.

    Args:
        uri: as of `BatchInput`.
        folder: what relative ones are relative to.
    """
    if _ADDRESS.fullmatch(uri):
        return Path(unquote(urlsplit(uri).path))
    return folder / uri


def _named(argument: str) -> Iterable[BatchInput]:
    if is_remote(argument):
        return _remote(argument)
    path = local_path(argument, Path())
    if path.is_dir():
        found = [*_in_folder(argument, path)]
        if not found:
            raise UsageError(
                f"the folder {argument} has no picture and no video: files with one of the endings "
                f"{' '.join(sorted(PICTURE_ENDINGS | VIDEO_ENDINGS))} are looked for; name others one by one"
            )
        return found
    if path.exists():
        return _listed(path) if path.suffix.lower() in _LIST_ENDINGS else [_file(argument, path)]
    if not glob.has_magic(argument):
        raise UsageError(f"there is no file {argument}")
    files = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  # absolute ones too
    if not files:
        raise UsageError(f"no file fits the pattern {argument}")
    return (one for file in files for one in _named(file))


def _in_folder(argument: str, folder: Path) -> Iterator[BatchInput]:
    """The files of a folder at any depth, by path; no pipes, sockets and devices."""
    is_address = _ADDRESS.fullmatch(argument) is not None
    for place, folders, names in os.walk(folder):
        folders.sort()
        inside = os.path.relpath(place, folder)
        for name in sorted(names):
            ending = Path(name).suffix.lower()
            if ending in PICTURE_ENDINGS | VIDEO_ENDINGS and not would_wait(Path(place, name)):
                relative = name if inside == "." else f"{inside}/{name}"
                written = quote(relative) if is_address else relative
                yield _file(f"{argument.rstrip('/')}/{written}", Path(place, name))


def _listed(file: Path) -> Iterator[BatchInput]:
    """What a text list names. A file that is not there is left to its row, which says so."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list {file} cannot be read: {error}") from error
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        if is_remote(line):
            yield from _remote(line)
            continue
        uri = line if _ADDRESS.fullmatch(line) else str(file.parent / line)
        path = local_path(uri, Path())
        if path.is_dir() or (glob.has_magic(uri) and not path.exists()):
            yield from _named(uri)
        else:
            yield _file(uri, path)


def _file(uri: str, path: Path) -> BatchInput:
    is_video = path.suffix.lower() in VIDEO_ENDINGS
    try:
        state = path.stat()
    except OSError:
        return BatchInput(uri, is_video)
    return BatchInput(uri, is_video, state.st_size, state.st_mtime_ns)


def _remote(uri: str) -> Iterator[BatchInput]:
    for name, size in list_remote(uri):
        ending = Path(urlsplit(name).path).suffix.lower()
        if ending in VIDEO_ENDINGS:
            raise UsageError(
                f"{name}: videos are read from this machine's files, pictures from anywhere: copy "
                "it, or mount its folder"
            )
        if name == uri or glob.has_magic(uri) or ending in PICTURE_ENDINGS:
            yield BatchInput(name, is_video=False, size=size)
