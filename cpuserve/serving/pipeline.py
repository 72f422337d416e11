"""Answers requests for one version of a model: decode, batch, infer, postprocess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

import numpy as np

from cpuserve.errors import RequestError
from cpuserve.models.card import Card
from cpuserve.serving.batcher import Batcher, BatchRows
from cpuserve.serving.cut_parts import CutParts
from cpuserve.serving.decode import Pixels
from cpuserve.serving.engine import Array, Port
from cpuserve.serving.geometry import ROWS, Batch
from cpuserve.serving.picture_input import Encoded, PictureSize, ScaledPicture
from cpuserve.serving.picture_path import PicturePath
from cpuserve.serving.postprocess import Answer, Postprocessor, Segmenter, TensorsOnly
from cpuserve.serving.render import mask_png, overlay_png, upright
from cpuserve.serving.request import Request
from cpuserve.serving.request_rows import run_rows
from cpuserve.serving.row_source import RowSource, arrays_of, write_rows
from cpuserve.serving.statistics import Recorder, Statistics
from cpuserve.serving.tensor_checks import check_rows
from cpuserve.serving.whole_requests import infer_alone

__all__ = ["Pipeline", "Seen"]

Seen = TypeVar("Seen")
"""What is made of the outputs for a picture."""


@dataclass(frozen=True)
class Pipeline:
    """One loaded version of a model, which answers requests.

    Attributes:
        name: of the model.
        version: of the model.
        card: its metadata.
        tensors: runs tensors in the model's own type and layout.
        pictures: runs encoded pictures; None for a model that takes none.
        post: makes answers of outputs, or says why it cannot.
        recorder: counts what this worker does with it.
        cut: head and tail of a cut model, whose core the batchers run; None for a whole one.
        checksum: of the files it was loaded from.
        batch: whether requests are joined and cut by rows; else each runs alone, in the model's own shapes.
        precision_reason: why it computes in the precision it does.
    """

    name: str
    version: int
    card: Card
    tensors: Batcher
    pictures: PicturePath | None
    post: Postprocessor | TensorsOnly
    recorder: Recorder
    cut: CutParts | None = None
    checksum: str = ""
    batch: Batch = ROWS
    precision_reason: str = ""

    @property
    def batcher(self) -> Batcher:
        """What runs the model's main kind of request: pictures, or tensors where it takes none."""
        return self.tensors if self.pictures is None else self.pictures.batcher

    @property
    def decode(self) -> str:
        """How JPEG is decoded, ``exact`` or ``fast``; empty for a model that takes no pictures."""
        if self.pictures is None:
            return ""
        return "exact" if self.pictures.picture_input.decoder.exact else "fast"

    @property
    def inputs(self) -> Sequence[Port]:
        """The model's own inputs."""
        return self.tensors.engine.inputs if self.cut is None else self.cut.inputs

    @property
    def outputs(self) -> Sequence[Port]:
        """The model's outputs."""
        return self.tensors.engine.outputs if self.cut is None else self.cut.outputs

    @property
    def input_size(self) -> PictureSize:
        """The size that places are told in where a picture's own is not known: that of the model's input."""
        if self.pictures is None:
            return PictureSize(1, 1)
        resizer = self.pictures.picture_input.resizer
        return PictureSize(resizer.width, resizer.height)

    def uncounted(self) -> Pipeline:
        """The same version without a cache, whose requests are not in the statistics of its model."""
        own = {part.name: getattr(self, part.name) for part in fields(Pipeline)}
        return Pipeline(
            **{**own, "recorder": Statistics(rows=1, models=1).recorder(0, self.name, self.version)}
        )

    def predict(self, picture: Encoded, request: Request, topk: int | None = None) -> Answer:
        """Answer one encoded picture.

        Args:
            picture: the whole file.
            request: takes the stage timings.
            topk: number of classes wanted; None for the model's own.

        Raises:
            RequestError: a bad picture, or a model that answers no pictures.
        """
        return self._look(picture, request, topk, self._postprocessor().answer)

    def render(
        self, picture: Encoded, request: Request, topk: int | None = None, *, mask: bool = False
    ) -> bytes:
        """Answer one encoded picture by a PNG of its size, upright.

        Args:
            picture: the whole file; it is decoded once more, whole.
            request: takes the stage timings.
            topk: number of classes wanted; None for the model's own.
            mask: answer the class of each pixel instead of the answer drawn over the picture.

        Raises:
            RequestError: a bad picture, a model that answers none, or no segmentation asked for a mask.
        """
        if mask and not isinstance(self._postprocessor(), Segmenter):
            raise RequestError(
                f"model {self.name} is not a segmentation model and has no mask; ask for the overlay"
            )
        answer, drawn = self.see(picture, request, topk)
        if mask and drawn is not None:
            data = mask_png(drawn)
        else:
            data = overlay_png(upright(picture, self.picture_path().picture_input.decoder), answer, drawn)
        request.done("post")
        return data

    def see(
        self,
        picture: Encoded | ScaledPicture,
        request: Request,
        topk: int | None = None,
        *,
        mask: bool = True,
    ) -> tuple[Answer, Pixels | None]:
        """Answer one picture, and say the class of each of its pixels where the model finds that.

        Args:
            picture: the whole file, or its pixels as large as the model's input.
            request: takes the stage timings.
            topk: number of classes wanted; None for the model's own.
            mask: whether the classes of the pixels are wanted.

        Returns:
            The answer; classes u8 [height, width] of a segmentation if they are wanted, else None.

        Raises:
            RequestError: a bad picture, or a model that answers no pictures.
        """
        post = self._postprocessor()
        segmenter = post if mask and isinstance(post, Segmenter) else None

        def look(
            outputs: Sequence[Array], topk: int | None, frame: PictureSize
        ) -> tuple[Answer, Pixels | None]:
            classes = None if segmenter is None else segmenter.mask(outputs, frame)
            return post.answer(outputs, topk, frame), classes

        return self._look(picture, request, topk, look)

    def _look(
        self,
        picture: Encoded | ScaledPicture,
        request: Request,
        topk: int | None,
        look: Callable[[Sequence[Array], int | None, PictureSize], Seen],
    ) -> Seen:
        """Run one encoded picture and call ``look`` with its outputs while they are valid."""
        pictures = self.picture_path()
        batcher = pictures.batcher
        with _InFlight(self.recorder, request, 1):
            request.done("queue")
            rows = batcher.claim()
            try:
                if pictures.head is None:
                    frame = pictures.picture_input.into(picture, rows.inputs[0][0], request.spans)
                else:
                    frame = pictures.through_head(pictures.head, picture, rows, 0, request.spans)
                request.done("decode")
                batcher.run(rows)
                request.ran(rows.started_ns, rows.finished_ns, rows.count, led=rows.led)
                outputs = rows.outputs if self.cut is None else self.cut.whole_outputs(rows.outputs)
                seen = look([output[0] for output in outputs], topk, frame)
                request.done("post")
            finally:
                batcher.release(rows)
        return seen

    def outputs_of(self, picture: Encoded | ScaledPicture, request: Request) -> list[Array]:
        """The outputs for one picture, each without the batch dimension.

        Raises:
            RequestError: a bad picture, or a model that takes none.
        """
        return self._look(picture, request, None, lambda outputs, *_: [np.array(one) for one in outputs])

    def predict_all(
        self, pictures: Sequence[Encoded], request: Request, topk: int | None = None
    ) -> list[Answer]:
        """Answer encoded pictures, as many at a time as a batch holds.

        Raises:
            RequestError: a bad picture, named by its place, or a model that answers no pictures.
        """
        post = self._postprocessor()
        frames: dict[int, PictureSize] = {}
        if self.batch.free:
            outputs = self.infer_pictures(pictures, request, frames)
            rows = [[output[place] for output in outputs] for place in range(len(pictures))]
        else:
            alone = self._run_pictures(pictures, request, frames)
            rows = [[output[0] for output in outputs] for outputs in alone]
        return [post.answer(row, topk, frames[place]) for place, row in enumerate(rows)]

    def infer_pictures(
        self, pictures: Sequence[Encoded], request: Request, frames: dict[int, PictureSize] | None = None
    ) -> list[Array]:
        """Outputs for encoded pictures: one array [number of pictures, ...] an output.

        A model without a batch runs one after the other; the outputs of one picture have their own shapes.

        Args:
            pictures: the whole files.
            request: takes the stage timings.
            frames: takes the frame of each picture by its place.

        Raises:
            RequestError: a bad picture, named by its place, a model that takes no pictures, or several
                pictures for a model whose outputs are no rows.
        """
        if self.batch.free:
            (outputs,) = self._run_pictures(pictures, request, frames)
            return outputs
        ports = self.picture_path().batcher.engine.outputs
        odd = next((port for port in ports if not port.outer), None)
        if odd is not None and len(pictures) > 1:
            raise RequestError(
                f"model {self.name} has no batch: output {odd.names[0]!r} has shape {list(odd.shape)} for "
                f"one picture, and {len(pictures)} were sent; send one in a request"
            )
        alone = self._run_pictures(pictures, request, frames)
        if odd is None:
            return [np.concatenate(parts) for parts in zip(*alone, strict=True)]
        return [
            output if port.outer else output.reshape(output.shape[1:])
            for port, output in zip(ports, alone[0], strict=True)
        ]

    def _run_pictures(
        self, pictures: Sequence[Encoded], request: Request, frames: dict[int, PictureSize] | None
    ) -> list[list[Array]]:
        """The outputs of all pictures, [N, ...]; of a model without a batch those of each, [1, ...]."""
        way = self.picture_path()

        def fill(rows: BatchRows, start: int) -> None:
            for index, row in enumerate(rows.inputs[0]):
                picture = pictures[start + index]
                try:
                    if way.head is None:
                        frame = way.picture_input.into(picture, row, request.spans)
                    else:
                        frame = way.through_head(way.head, picture, rows, index, request.spans)
                except RequestError as error:
                    if len(pictures) > 1:
                        raise type(error)(f"picture {start + index} of {len(pictures)}: {error}") from error
                    raise
                if frames is not None:
                    frames[start + index] = frame

        def put(place: int, rows: BatchRows, _start: int) -> None:
            fill(rows, place)

        with _InFlight(self.recorder, request, len(pictures)):
            if self.batch.free:
                return [run_rows(way.batcher, len(pictures), fill, request, self.cut)]
            found = []
            for place in range(len(pictures)):
                if place:
                    request.check_time(place, len(pictures))
                found.append(run_rows(way.batcher, 1, partial(put, place), request, None))
            return found

    @property
    def takes_sources(self) -> bool:
        """Whether `infer` takes a `RowSource` in the place of an array."""
        return self.batch.free and self.cut is None

    def infer(self, tensors: Sequence[Array | RowSource], request: Request) -> list[Array]:
        """Outputs for tensors.

        Args:
            tensors: one array an input, in the order, type and shape of `inputs`; see `takes_sources`.
            request: takes the stage timings.

        Returns:
            One array an output, in the shape of `outputs`.

        Raises:
            RequestError: a tensor's shape or type is not the input's, or the batches differ.
        """
        if not self.batch.free:
            with _InFlight(self.recorder, request, 1):
                return infer_alone(self.tensors, arrays_of(tensors), request)
        head = None if self.cut is None else self.cut.head

        def fill(rows: BatchRows, start: int) -> None:
            if head is None:
                write_rows(rows.inputs, tensors, start)
            else:
                sent = [array[start : start + rows.count] for array in arrays_of(tensors)]
                write_rows(rows.inputs, head(sent), 0)

        with _InFlight(self.recorder, request, tensors[0].shape[0] if tensors[0].ndim else 0):
            return run_rows(self.tensors, check_rows(self.inputs, tensors), fill, request, self.cut)

    def infer_rows(self, sources: Sequence[RowSource], count: int, request: Request) -> list[Array]:
        """As `infer`, for sources like others that it has answered; of a pipeline that takes them.

        Args:
            sources: one an input.
            count: their rows.
            request: takes the stage timings.
        """

        def fill(rows: BatchRows, start: int) -> None:
            write_rows(rows.inputs, sources, start)

        with _InFlight(self.recorder, request, count):
            return run_rows(self.tensors, count, fill, request, None)

    def _postprocessor(self) -> Postprocessor:
        if isinstance(self.post, TensorsOnly):
            raise RequestError(
                f"model {self.name} answers tensors only: {self.post.reason}; "
                f"ask for its tensors at /v2/models/{self.name}/infer"
            )
        return self.post

    def picture_path(self) -> PicturePath:
        """What takes pictures into the engine.

        Raises:
            RequestError: the model takes none.
        """
        if self.pictures is None:
            raise RequestError(
                f"model {self.name} takes no pictures: no single input [N, H, W, 3] or [N, 3, H, W] of fixed "
                "height and width (the setting `shape` and `cpuserve convert --input` fix them)"
            )
        return self.pictures


class _InFlight:
    """Counts a request as in flight, then as answered or failed; cheaper than a `contextmanager`."""

    __slots__ = ("_images", "_recorder", "_request")

    def __init__(self, recorder: Recorder, request: Request, images: int) -> None:
        self._recorder = recorder
        self._request = request
        self._images = images

    def __enter__(self) -> None:
        self._recorder.add("in_flight")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._recorder.succeeded(self._request, self._images)
        else:
            self._recorder.failed(self._request)
