"""The errors cpuserve raises, with the HTTP status and the gRPC code that each is answered with.

A message names the input, the limit and the setting that changes it::

    CpuserveError                500  INTERNAL           anything cpuserve refuses or cannot do
    ├── UsageError               500  INTERNAL           wrong options, variables or settings files
    ├── MissingExtra             500  INTERNAL           a package that is not installed
    ├── RepositoryError          500  INTERNAL           a model directory that cannot be read or written
    │   ├── ModelLoadError       500  INTERNAL           OpenVINO refused the model
    │   │   └── ModelChanging    500  INTERNAL           its files change while they are read
    │   ├── UnknownCatalogEntry  500  INTERNAL           the catalogue has no model of that name
    │   ├── DownloadError        500  INTERNAL           a file could not be fetched
    │   └── ChecksumError        500  INTERNAL           a fetched file has the wrong checksum
    ├── ModelFailed              500  INTERNAL           a model's own code failed while it ran
    ├── PlacementError           500  INTERNAL           the seats asked for do not fit the machine
    ├── VideoError               500  INTERNAL           a video that cannot be read, or not to its end
    └── RequestError             400  INVALID_ARGUMENT   the request cannot be answered as it stands
        ├── NotSupported         501  UNIMPLEMENTED      a part of a protocol that the server does not have
        ├── Unauthorized         401  UNAUTHENTICATED    no right API key
        ├── ForeignOrigin        403  PERMISSION_DENIED  a web page of another site asks for a change
        ├── UndecodableImage     400  INVALID_ARGUMENT   a damaged, truncated or empty picture
        ├── UnsupportedFormat    415  INVALID_ARGUMENT   a picture format that is not accepted
        ├── BodyTooLarge         413  RESOURCE_EXHAUSTED more bytes than `max_body_bytes`
        ├── TooManyElements      413  INVALID_ARGUMENT   more JSON values than `max_json_elements`
        ├── TooManyPixels        413  INVALID_ARGUMENT   more pixels than `max_pixels`
        ├── TooMuchDecoding      413  INVALID_ARGUMENT   above `max_jpeg_scan_pixels` or `decode_timeout_ms`
        ├── UnknownModel         404  NOT_FOUND          no such model, or no such version of it
        ├── UnknownTrace         404  NOT_FOUND          no traced request of that name
        ├── NotAcceptable        406  INVALID_ARGUMENT   no form of answer that the client accepts
        ├── ModelNotReady        503  UNAVAILABLE        still loading, or failed to load
        ├── QueueFull            503  UNAVAILABLE        too many requests are waiting
        ├── BodiesTooLarge       503  UNAVAILABLE        more bytes than `max_unfinished_body_bytes`
        ├── RateLimited          429  RESOURCE_EXHAUSTED more requests from one client than `rate_limit`
        ├── DeadlineExceeded     504  DEADLINE_EXCEEDED  its time was over before it could be run
        └── ClientLeft           499  CANCELLED          nobody waits for the answer any more
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

__all__ = [
    "BodiesTooLarge",
    "BodyTooLarge",
    "ChecksumError",
    "ClientLeft",
    "CpuserveError",
    "DeadlineExceeded",
    "DownloadError",
    "ForeignOrigin",
    "MissingExtra",
    "ModelChanging",
    "ModelFailed",
    "ModelLoadError",
    "ModelNotReady",
    "NotAcceptable",
    "NotSupported",
    "PlacementError",
    "QueueFull",
    "RateLimited",
    "RepositoryError",
    "RequestError",
    "TooManyElements",
    "TooManyPixels",
    "TooMuchDecoding",
    "Unauthorized",
    "UndecodableImage",
    "UnknownCatalogEntry",
    "UnknownModel",
    "UnknownTrace",
    "UnsupportedFormat",
    "UsageError",
    "VideoError",
    "install_command",
    "last_line",
    "pip_install",
    "without_directories",
]

_DIRECTORIES = re.compile(r"(?<![\w./])/(?:[^\s'\":,;()/]+/)+")


class CpuserveError(Exception):
    """Anything cpuserve refuses or cannot do.

    Subclasses name their answer: ``class UnknownModel(RequestError, status=404, grpc_code="NOT_FOUND")``.
    Without that they are answered like the class above them.

    Attributes:
        status: the HTTP status of the answer.
        grpc_code: the name of the gRPC status code of the answer.
        retry_after_s: seconds after which the same request may succeed, or None.
    """

    status: int = 500
    grpc_code: str = "INTERNAL"
    retry_after_s: float | None = None

    def __init_subclass__(cls, *, status: int | None = None, grpc_code: str | None = None) -> None:
        super().__init_subclass__()
        cls.status = status or cls.status
        cls.grpc_code = grpc_code or cls.grpc_code

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets another process have it as it is, whatever its constructor takes."""
        return _made_again, (type(self), self.args, self.__dict__)

    @property
    def public_text(self) -> str:
        """The message for clients: without directories, since it was written for whoever runs the server."""
        return without_directories(str(self))


def _made_again(kind: type[CpuserveError], args: tuple[Any, ...], state: dict[str, Any]) -> CpuserveError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(CpuserveError):
    """Wrong options on the command line, or wrong values in the environment or a settings file."""


class MissingExtra(CpuserveError):
    """What was asked for needs packages that are not installed.

    Args:
        what: what needs them, and the package: "this needs NNCF".
        extra: the extra of cpuserve that brings them; empty where none does.
        command: what installs them; by default it adds the extra.
    """

    def __init__(self, what: str, extra: str, command: str = "") -> None:
        super().__init__(f"{what}: {command or install_command(extra)}")


class RepositoryError(CpuserveError):
    """A model directory that cannot be read or written."""


class ModelLoadError(RepositoryError):
    """OpenVINO refused the model."""


class ModelChanging(ModelLoadError):
    """The files of a version change while they are read. It is loaded once they no longer change."""


class UnknownCatalogEntry(RepositoryError):
    """The catalogue has no model of that name."""


class DownloadError(RepositoryError):
    """A model file could not be fetched."""


class ChecksumError(RepositoryError):
    """A fetched file does not have the checksum in the catalogue."""


class ModelFailed(CpuserveError):
    """A model's own code failed while it ran."""


class PlacementError(CpuserveError):
    """The seats asked for do not fit into what this process may use."""


class VideoError(CpuserveError):
    """A video file or stream that cannot be read, or not to its end."""


class RequestError(CpuserveError, status=400, grpc_code="INVALID_ARGUMENT"):
    """The request cannot be answered as it stands."""

    @property
    def public_text(self) -> str:
        """The message as it is, since it was written for the client."""
        return str(self)


class NotSupported(RequestError, status=501, grpc_code="UNIMPLEMENTED"):
    """A part of a protocol that the server does not have."""


class Unauthorized(RequestError, status=401, grpc_code="UNAUTHENTICATED"):
    """The request brings no right API key."""


class ForeignOrigin(RequestError, status=403, grpc_code="PERMISSION_DENIED"):
    """The script of a web page that is not in ``allowed_origins`` asks for a change of the server."""


class UndecodableImage(RequestError):
    """A picture that is damaged, truncated or empty."""


class UnsupportedFormat(RequestError, status=415):
    """A picture format that is not accepted."""


class BodyTooLarge(RequestError, status=413, grpc_code="RESOURCE_EXHAUSTED"):
    """A request body of more bytes than ``max_body_bytes``."""


class TooManyElements(RequestError, status=413):
    """A JSON body of more values than ``max_json_elements``."""


class TooManyPixels(RequestError, status=413):
    """A picture of more pixels than ``max_pixels``."""


class TooMuchDecoding(RequestError, status=413):
    """A picture that takes more work to decode than ``max_jpeg_scan_pixels`` or ``decode_timeout_ms``."""


class UnknownModel(RequestError, status=404, grpc_code="NOT_FOUND"):
    """No such model, or no such version of it.

    Attributes:
        name: what the user called it, where a repository was searched; else empty.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class UnknownTrace(RequestError, status=404, grpc_code="NOT_FOUND"):
    """No traced request of that name is in memory."""


class NotAcceptable(RequestError, status=406):
    """The answer has none of the forms in the ``Accept`` header."""


class ModelNotReady(RequestError, status=503, grpc_code="UNAVAILABLE"):
    """The model is still loading, or failed to load."""

    retry_after_s = 1.0


class _RetryLater(RequestError):
    """A refusal that says when the same request may succeed."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(_RetryLater, status=503, grpc_code="UNAVAILABLE"):
    """Too many requests are waiting, or so many that this one would miss its deadline."""


class BodiesTooLarge(_RetryLater, status=503, grpc_code="UNAVAILABLE"):
    """The unfinished requests of a worker hold more bytes than ``max_unfinished_body_bytes``."""


class RateLimited(_RetryLater, status=429, grpc_code="RESOURCE_EXHAUSTED"):
    """One client sends more requests than ``rate_limit`` allows."""


class DeadlineExceeded(RequestError, status=504, grpc_code="DEADLINE_EXCEEDED"):
    """The request's time was over before it could be run."""


class ClientLeft(RequestError, status=499, grpc_code="CANCELLED"):
    """The client had gone before its request could be run, so nobody waits for the answer."""


def install_command(extra: str) -> str:
    """The command that adds an extra to the environment this process runs in."""
    return pip_install(f"'cpuserve[{extra}]'")


def pip_install(words: str) -> str:
    """The command that installs packages into the environment this process runs in."""
    own = shlex.quote(sys.executable)
    python = "python" if shutil.which("python") == sys.executable else own
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {own} {words}"
    return f"{python} -m pip install {words}"


def without_directories(text: str, *roots: Path) -> str:
    """A message with absolute paths cut short.

    Args:
        text: the message.
        roots: files below these are named relative to them, all others by their name alone.
    """
    for root in roots:
        for place in {str(root.absolute()), str(root.resolve())} - {root.root}:
            bounded = rf"(?<![\w./-]){re.escape(place)}"
            text = re.sub(f"{bounded}/", "", text)
            text = re.sub(rf"{bounded}(?![\w.-])", root.name, text)
    return _DIRECTORIES.sub("", text)


def last_line(error: BaseException) -> str:
    """The reason in an error of OpenVINO: its last line, behind those that name files of its source."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
