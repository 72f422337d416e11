"""Downloads the files that the catalogue names, resumes broken transfers and verifies checksums."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import stat
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cpuserve import __version__
from cpuserve.authoring.catalog import CatalogFile
from cpuserve.errors import ChecksumError, DownloadError

__all__ = ["Downloader", "Progress", "default_cache"]

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes of the whole file."""

_BLOCK = 1 << 18
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


def default_cache() -> Path:
    """The directory where fetched files are kept between runs.

    A user without a home, such as the number a container was given, has one of their own below the directory
    for temporary files.

    Raises:
        DownloadError: that one cannot be made, or is another user's.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "cpuserve"
    try:
        return Path.home() / ".cache" / "cpuserve"
    except RuntimeError:  # neither HOME nor an entry for the user
        return _private(Path(tempfile.gettempdir()) / f"cpuserve-{os.getuid()}")


def _private(folder: Path) -> Path:
    """A directory that only this user can write: links in one of others could lead anywhere."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise DownloadError(f"no cache {folder}: {error.strerror}; set XDG_CACHE_HOME") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise DownloadError(f"the cache {folder} is open to other users; set XDG_CACHE_HOME")
    return folder


def _quiet(_done: int, _total: int) -> None:
    """Shows no progress."""


@dataclass(frozen=True)
class Downloader:
    """Fetches sources from where they are published, or from a mirror.

    Attributes:
        cache: directory of fetched files; a part that was cut off stays there and is resumed.
        mirror: a directory or an http(s) URL that has the files by name, asked instead of the source's URL.
        attempts: how often a transfer may fail in a row without getting further.
        backoff_s: seconds before the second attempt; doubled for each further one.
        timeout_s: seconds without a byte after which an attempt has failed.
    """

    cache: Path = field(default_factory=default_cache)
    mirror: str = ""
    attempts: int = 4
    backoff_s: float = 0.5
    timeout_s: float = 30.0

    def fetch(self, source: CatalogFile, progress: Progress = _quiet) -> Path:
        """Brings a source to this machine and checks it.

        Args:
            source: the file wanted.
            progress: called with the bytes that are here and the bytes of the whole.

        Returns:
            Path of the verified file: in the cache, or in the mirror directory itself.

        Raises:
            DownloadError: it could not be fetched; what arrived is kept, for the next run to resume.
            ChecksumError: another file arrived than the catalogue means; it is deleted.
        """
        if self.mirror and not _is_url(self.mirror):
            return self._in_mirror(source, Path(self.mirror), progress)
        if self.mirror:
            url = f"{self.mirror.rstrip('/')}/{urllib.parse.quote(source.file)}"
        elif source.url:
            url = source.url
        else:
            raise DownloadError(f"{source.file} is in mirrors only: {source.mirror_only}. {_HINT}")
        try:
            with self._locked_cache():
                return self._cached(source, url, progress)
        except OSError as error:
            raise DownloadError(
                f"cannot write to the cache {self.cache} (XDG_CACHE_HOME): {error}"
            ) from error

    def _in_mirror(self, source: CatalogFile, mirror: Path, progress: Progress) -> Path:
        for file in (mirror / source.file, *sorted(mirror.glob(f"*/{source.file}"))):
            if file.is_file():
                try:
                    found = _sha256(file)
                except OSError as error:
                    raise DownloadError(f"{file} of the mirror cannot be read: {error.strerror}") from error
                if found != source.sha256:
                    raise _wrong(source, str(file), found)
                progress(source.bytes, source.bytes)
                return file
        raise DownloadError(f"mirror {mirror} has no file {source.file} (nor has a directory in it). {_HINT}")

    @contextmanager
    def _locked_cache(self) -> Iterator[None]:
        # Two pulls at a time would write into the same part.
        self.cache.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.cache, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _cached(self, source: CatalogFile, url: str, progress: Progress) -> Path:
        file = self.cache / f"{source.sha256[:12]}-{source.file}"
        if file.is_file():
            if _sha256(file) == source.sha256:
                progress(source.bytes, source.bytes)
                return file
            file.unlink()
        part = file.with_name(file.name + ".part")
        while True:
            resumed = _size(part) > 0
            self._transfer(source, url, part, progress)
            found = _sha256(part)
            if found == source.sha256:
                part.rename(file)
                return file
            part.unlink()
            if not resumed:
                raise _wrong(source, url, found)
            # Else what was kept may have been the wrong half: once more, from the beginning.

    def _transfer(self, source: CatalogFile, url: str, part: Path, progress: Progress) -> None:
        """Fills the part until the server has no more of it, over as many connections as it takes."""
        furthest, failures = _size(part), 0
        while True:
            try:
                self._one_connection(source, url, part, progress)
            except _InterruptedTransfer as interruption:
                reached = _size(part)
                failures = 1 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                if failures >= self.attempts:
                    kept = f"; {reached} of {source.bytes} bytes are kept for the next run" if reached else ""
                    raise DownloadError(
                        f"{url} could not be fetched, {failures} attempts failed ({interruption}){kept}. "
                        f"{_HINT}"
                    ) from interruption
                time.sleep(self.backoff_s * 2 ** (failures - 1))
            else:
                return

    def _one_connection(self, source: CatalogFile, url: str, part: Path, progress: Progress) -> None:
        have = _size(part)
        if have >= source.bytes:
            progress(source.bytes, source.bytes)
            return
        headers = {"User-Agent": f"cpuserve/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s) only, by `_is_url`
        with _network(url, part):
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=self.timeout_s)  # noqa: S310
        with answer, part.open("ab") as out:
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                out.truncate(0)  # a server without ranges begins at the beginning
                have = 0
            announced = answer.length  # counts down while reading
            received = 0
            while True:
                with _network(url, part):
                    block = answer.read(_BLOCK)
                if not block:
                    break
                out.write(block)
                received += len(block)
                progress(min(have + received, source.bytes), source.bytes)
                if have + received > source.bytes:
                    return  # longer than the file wanted: the checksum will say so
            # Only these two say where the end is: a length, or chunks, whose loss is an error by itself.
            complete = received == announced or answer.chunked
            if not complete and have + received < source.bytes:
                raise _InterruptedTransfer(f"the connection ended after {have + received} bytes")


_HINT = (
    "Machines without internet: --mirror DIR or CPUSERVE_MIRROR names a directory or URL that has the file."
)


class _InterruptedTransfer(Exception):
    """The transfer stopped for a reason that may pass."""


@contextmanager
def _network(url: str, part: Path) -> Iterator[None]:
    """Tells errors of the network, which may pass, from those of the disk, which do not."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)  # more is here than the server has
        elif error.code not in _TRANSIENT_STATUS:
            raise DownloadError(f"{url} answered {error.code} {error.reason}. {_HINT}") from error
        raise _InterruptedTransfer(f"{error.code} {error.reason}") from error
    except (http.client.HTTPException, OSError) as error:
        raise _InterruptedTransfer(str(getattr(error, "reason", error)) or type(error).__name__) from error


def _is_url(mirror: str) -> bool:
    return urllib.parse.urlsplit(mirror).scheme in ("http", "https")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _wrong(source: CatalogFile, origin: str, found: str) -> ChecksumError:
    return ChecksumError(
        f"{origin} is not the {source.file} of the catalogue: sha256 expected {source.sha256}, got {found}"
    )
