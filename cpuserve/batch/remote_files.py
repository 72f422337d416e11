"""Lists and reads files that are not on this machine, through fsspec."""

from __future__ import annotations

import glob
import time
from typing import Any
from urllib.parse import urlsplit

from cpuserve.errors import CpuserveError, MissingExtra, UsageError, pip_install

__all__ = ["list_remote", "read_remote"]

_PAUSES_S = (0.5, 2.0)  # before a read that failed is tried again
_NOT_LISTED = ("http", "https")


def list_remote(uri: str) -> list[tuple[str, int]]:
    """The files that an address stands for, sorted, each with its size in bytes; -1 where nobody says it.

    Args:
        uri: of a file, a directory or a pattern such as ``s3://bucket/day1/*.jpg``.

    Raises:
        UsageError: nothing is there, or its kind of address is not known.
        MissingExtra: a package that it needs is not installed.
        CpuserveError: it cannot be listed.
    """
    files, path = _file_system(uri)
    if urlsplit(uri).scheme in _NOT_LISTED:
        if uri.endswith("/"):
            raise UsageError(f"{uri} is a folder of a web server, which cannot be listed: give a text list")
        return [(uri, -1)]
    try:
        if glob.has_magic(path):
            found = files.glob(path, detail=True)
        elif files.isdir(path):
            found = files.find(path, detail=True)
        else:
            found = {path: files.info(path)}
    except FileNotFoundError:
        found = {}
    except Exception as error:  # each kind of store raises its own
        raise CpuserveError(f"{uri} cannot be listed: {error or type(error).__name__}") from error
    named = {
        files.unstrip_protocol(name): int(facts.get("size") or 0)
        for name, facts in found.items()
        if facts.get("type") != "directory"
    }
    if not named:
        raise UsageError(f"there is no file {uri}")
    return sorted(named.items())


def read_remote(uri: str) -> bytes:
    """The content of a file; a read that fails is tried again twice.

    Raises:
        OSError: it is not there, or cannot be read.
        CpuserveError: as for `list_remote`.
    """
    files, path = _file_system(uri)
    for pause_s in (*_PAUSES_S, None):
        try:
            content: bytes = files.cat_file(path)
        except FileNotFoundError:
            raise
        except Exception as error:
            if pause_s is None:
                raise OSError(str(error) or type(error).__name__) from error
            time.sleep(pause_s)
        else:
            return content
    raise AssertionError  # the last round returns or raises


def _file_system(uri: str) -> tuple[Any, str]:
    scheme = urlsplit(uri).scheme
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{scheme}:// needs fsspec", "remote") from error
    try:
        files, path = url_to_fs(uri)
    except ImportError as error:
        raise MissingExtra(f"{scheme}:// needs a package beside fsspec", "", _install(scheme)) from error
    except ValueError as error:
        raise UsageError(f"{uri}: {error}") from error
    return files, path


def _install(scheme: str) -> str:
    """The command that installs what fsspec needs for a kind of address."""
    from fsspec.registry import known_implementations  # noqa: PLC0415  # an extra

    return pip_install(known_implementations[scheme]["class"].partition(".")[0])
