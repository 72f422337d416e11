"""The errors cpuserve raises: each names the input, the limit and the setting that changes it.

::

    CpuserveError                500
    ├── UsageError               -    wrong words on the command line or in a settings file
    ├── RepositoryError          -    a model directory that cannot be read or written
    │   ├── ModelLoadError       -    OpenVINO refused the model
    │   │   └── ModelChanging    -    its files change while they are read
    │   ├── UnknownCatalogEntry  -    `pull` of a name the catalogue does not have
    │   ├── DownloadError        -    the file could not be fetched
    │   └── ChecksumError        -    the file is not the one the catalogue means
    ├── ModelFailed              500  a model's own code failed while it ran
    ├── PlacementError           -    the seats asked for do not fit the budget
    └── RequestError             400  the request cannot be answered as it stands
        ├── Unauthorized         401  no right API key
        ├── UndecodableImage     400  damaged, truncated or empty picture
        ├── UnsupportedFormat    415  not a picture format that is accepted
        ├── BodyTooLarge         413  more bytes than `max_body_bytes`
        ├── TooManyElements      413  more JSON values than `max_json_elements`
        ├── TooManyPixels        413  more pixels than `max_pixels`
        ├── TooMuchDecoding      413  more work to decode than `max_jpeg_scan_pixels` or `decode_timeout_ms`
        ├── UnknownModel         404  no such model, or no such version of it
        ├── NotAcceptable        406  no form of answer that the client takes
        ├── ModelNotReady        503  still loading, or failed to load
        ├── QueueFull            503  more requests waiting than may, or than the deadline allows
        ├── BodiesTooLarge       503  more bytes of unfinished bodies than `max_unfinished_body_bytes`
        ├── RateLimited          429  more requests from one client than `rate_limit`
        └── DeadlineExceeded     504  its time was over before it could be run
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = [
    "BodiesTooLarge",
    "BodyTooLarge",
    "ChecksumError",
    "CpuserveError",
    "DeadlineExceeded",
    "DownloadError",
    "ModelChanging",
    "ModelFailed",
    "ModelLoadError",
    "ModelNotReady",
    "NotAcceptable",
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
    "without_directories",
]

_DIRECTORIES = re.compile(r"(?<![\w./])/(?:[^\s'\":,;()/]+/)+")


class CpuserveError(Exception):
    """Anything cpuserve refuses or cannot do; its text is fit to be shown to the user.

    Attributes:
        status: the HTTP status a transport answers with.
        retry_after_s: seconds after which the same request may succeed, or None.
    """

    status = 500
    retry_after_s: float | None = None


class UsageError(CpuserveError):
    """Wrong words on the command line, in the environment or in a settings file."""


class RepositoryError(CpuserveError):
    """A model directory that cannot be read or written."""


class ModelLoadError(RepositoryError):
    """OpenVINO refused the model."""


class ModelChanging(ModelLoadError):
    """The files of a version change while they are read; they are taken once they are still."""


class UnknownCatalogEntry(RepositoryError):
    """The catalogue has no model of that name."""


class DownloadError(RepositoryError):
    """A model file could not be fetched."""


class ChecksumError(RepositoryError):
    """A fetched file is not the one the catalogue means."""


class ModelFailed(CpuserveError):
    """A model's own code failed while it ran."""


class PlacementError(CpuserveError):
    """The seats asked for do not fit into what this process may use."""


class RequestError(CpuserveError):
    """The request cannot be answered as it stands."""

    status = 400


class Unauthorized(RequestError):
    """The request brings no right API key."""

    status = 401


class UndecodableImage(RequestError):
    """A picture that is damaged, truncated or empty."""


class UnsupportedFormat(RequestError):
    """Not a picture format that is accepted."""

    status = 415


class BodyTooLarge(RequestError):
    """A request body of more bytes than ``max_body_bytes``."""

    status = 413


class TooManyElements(RequestError):
    """A JSON body of more values than ``max_json_elements``."""

    status = 413


class TooManyPixels(RequestError):
    """A picture of more pixels than ``max_pixels``."""

    status = 413


class TooMuchDecoding(RequestError):
    """A picture that takes more work to decode than ``max_jpeg_scan_pixels`` or ``decode_timeout_ms``."""

    status = 413


class UnknownModel(RequestError):
    """No such model, or no such version of it."""

    status = 404


class UnknownTrace(RequestError):
    """No traced request of that name is in memory."""

    status = 404


class NotAcceptable(RequestError):
    """The answer has none of the forms that the ``Accept`` header takes."""

    status = 406


class ModelNotReady(RequestError):
    """The model is still loading, or failed to load."""

    status = 503
    retry_after_s = 1.0


class _ComeBack(RequestError):
    """A refusal that says when the same request may succeed."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(_ComeBack):
    """More requests are waiting than may, or than leave this one time before its deadline."""

    status = 503


class BodiesTooLarge(_ComeBack):
    """The unfinished requests of a worker hold more bytes than ``max_unfinished_body_bytes``."""

    status = 503


class RateLimited(_ComeBack):
    """One client sends more requests than ``rate_limit`` allows."""

    status = 429


class DeadlineExceeded(RequestError):
    """The request's time was over before it could be run."""

    status = 504


def without_directories(text: str, *roots: Path) -> str:
    """A message for clients, in which no file is named by an absolute path.

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
