"""What a connection to one replica can do, and how its refusals are told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cpuserve.errors import CpuserveError
from cpuserve.serving.decode import Pixels

if TYPE_CHECKING:
    from cpuserve.video.tensor_recipe import TensorRecipe

__all__ = [
    "FrameRefused",
    "FrameRequest",
    "FramesAnswered",
    "Payload",
    "ReplicaBusy",
    "ReplicaFailed",
    "ReplicaLink",
    "ReplicaTarget",
    "ServedModel",
    "speaks",
    "unreadable",
]

Payload = Literal["raw", "jpeg"]


def unreadable(error: Exception) -> str:
    """What is wrong with what a server says of its model, by the error of reading it."""
    told = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return f"what it says of its model cannot be read: {told}"


def speaks(url: str, scheme: str) -> str:
    """The URL of the same server by another scheme."""
    return f"{scheme}://{url.partition('://')[2]}"


class ReplicaFailed(CpuserveError):
    """A replica did not answer as it should: its frames go to another one, and it is left out for a while.

    Attributes:
        lasting: whether waiting alone will not mend it: a wrong key, a model that is not there.
    """

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting


class ReplicaBusy(CpuserveError):
    """A replica has no room now.

    Attributes:
        retry_after_s: seconds after which it may have; 0 where it did not say.
    """

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s: float = retry_after_s


class FrameRefused(CpuserveError):
    """A replica says that the frame itself cannot be answered; another one would say the same."""


@dataclass(frozen=True)
class ServedModel:
    """What a replica says of its model.

    Attributes:
        name: of the model.
        version: of the model, in decimals.
        checksum: of its files; empty where the server does not say it.
        input_name: of its picture input.
        width: of the pixels it takes.
        height: of the pixels it takes.
        colour: their order.
        fit: how a picture is fitted into them, as `Scale.fit`.
        pad_value: grey level of the padding.
        has_mask: whether it says the class of each pixel.
        recipe: what is around its tensors, for a server that takes tensors only; None for one that takes
            scaled frames.
    """

    name: str
    version: str
    checksum: str
    input_name: str
    width: int
    height: int
    colour: Literal["RGB", "BGR", "GRAY"]
    fit: str
    pad_value: int
    has_mask: bool = False
    recipe: TensorRecipe | None = field(default=None, compare=False, repr=False)

    @property
    def channels(self) -> int:
        """Of the pixels it takes."""
        return 1 if self.colour == "GRAY" else 3

    def __str__(self) -> str:
        """Version and the beginning of the checksum."""
        return f"version {self.version}" + (f" ({self.checksum[:12]})" if self.checksum else "")


@dataclass(frozen=True)
class FrameRequest:
    """Scaled frames of one size for one replica.

    Attributes:
        contents: pixels u8 [height, width, C] of the model's input, or JPEG of these.
        payload: which of both.
        width: of the frames before they were scaled.
        height: of the frames before they were scaled.
        topk: number of classes wanted; None for the model's own.
        mask: whether the class of each pixel is wanted.
    """

    contents: Sequence[bytes]
    payload: Payload
    width: int
    height: int
    topk: int | None = None
    mask: bool = False


@dataclass(frozen=True)
class FramesAnswered:
    """Answers to the frames of a request.

    Attributes:
        answers: those of ``/predictions/MODEL``, in order.
        masks: of each frame the class of each pixel, u8 [height, width], where they were asked for.
        server_s: seconds that the server says it took, of which ``queue_s`` waiting; None where it does not.
        queue_s: seconds that the request waited in the server.
    """

    answers: Sequence[dict[str, Any]]
    masks: Sequence[Pixels] = ()
    server_s: float | None = None
    queue_s: float = 0.0


@dataclass(frozen=True)
class ReplicaTarget:
    """A server, and the model that it is asked for.

    Attributes:
        url: of the server.
        model: ``NAME`` or ``NAME/VERSION``.
        api_key: sent with every request; empty for none.
        timeout_s: seconds for one answer.
        recipe: gives what is around the model's tensors, for a server that takes no scaled frames.
        checksum: of the model's files; empty for any.
    """

    url: str
    model: str
    api_key: str
    timeout_s: float
    recipe: Callable[[], TensorRecipe]
    checksum: str = ""

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model.partition("/")[0]

    @property
    def version(self) -> str:
        """Of the model; empty for the server's choice."""
        return self.model.partition("/")[2]

    def checked(self, served: ServedModel) -> ServedModel:
        """What a server says that it serves, where it is what was asked for.

        Raises:
            ReplicaFailed: it is another model, another version, or the same with other files.
        """
        if served.recipe is not None and self.version:  # such a server names all versions that it has
            served = replace(served, version=self.version)
        wanted = f"version {self.version or served.version}"
        wanted += f" ({self.checksum[:12]})" if self.checksum else ""
        known = served.checksum and self.checksum
        other_files = bool(known) and served.checksum != self.checksum
        if served.name != self.name or served.version != (self.version or served.version) or other_files:
            raise ReplicaFailed(
                f"it serves {served} of {served.name}; load {wanted} of {self.name} there",
                lasting=True,
            )
        return served


class ReplicaLink(Protocol):
    """A connection to one replica; its coroutines run in the loop of `Replicas`."""

    async def model(self) -> ServedModel:
        """What it serves, once it is ready.

        Raises:
            ReplicaFailed: it does not answer, is not ready, or cannot answer scaled frames.
        """

    async def ask(self, model: ServedModel, request: FrameRequest) -> FramesAnswered:
        """Answer frames.

        Raises:
            ReplicaBusy: it has no room now.
            ReplicaFailed: it does not answer, or not as it should.
            FrameRefused: a frame cannot be answered by any replica.
        """

    async def close(self) -> None:
        """End the connection."""
