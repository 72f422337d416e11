"""Answers Frigate's detector with one model of the worker."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import orjson

from cpuserve.errors import CpuserveError, RequestError
from cpuserve.protocols.call import Call, Reply
from cpuserve.serving.decode import Pixels
from cpuserve.serving.picture_input import PictureInput, ScaledPicture
from cpuserve.serving.pool import Pool
from cpuserve.serving.postprocess import Detector
from cpuserve.zmq.detector_message import object_rows

__all__ = ["FrigateDetector"]

_log = logging.getLogger("cpuserve.zmq")
_FROM_RGB = {"RGB": None, "BGR": cv2.COLOR_RGB2BGR, "GRAY": cv2.COLOR_RGB2GRAY}


class FrigateDetector:
    """The model that a server's ZMQ endpoint stands for.

    Args:
        pool: the models of the worker.
        model: the name of the one that answers, whatever the client's own file is called.
    """

    def __init__(self, pool: Pool, model: str) -> None:
        self._pool = pool
        self.model = model
        self._no_boxes = f"model {model} finds no boxes: the setting zmq_model takes a detector"

    @property
    def absent(self) -> bool:
        """Whether the model is not loaded now, which may change."""
        try:
            self._pool.get(self.model)
        except CpuserveError:
            return True
        return False

    def question(self, name: str) -> bytes:
        """The answer to whether the model is there: it is, and loaded or not.

        A client that heard that it is not would send its file, and one whose model is not loaded gives up.

        Args:
            name: of the client's own file.
        """
        error = ""
        try:
            if not isinstance(self._pool.get(self.model).post, Detector):
                error = self._no_boxes
        except CpuserveError as refused:
            error = refused.public_text
        if error:
            _log.warning("Frigate asks for %r and is told that no model answers: %s", name, error)
        else:
            _log.info("Frigate asks for %r, model %r answers", name, self.model)
        told = {"model_available": True, "model_loaded": not error, "model_name": self.model}
        return orjson.dumps({**told, "error": error} if error else told)

    def upload(self, name: str) -> bytes:
        """The answer to a client that sends its file: it is not taken."""
        error = f"models come from this server's repository (setting zmq_model): {name!r} was not taken"
        _log.warning("%s", error)
        return orjson.dumps({"model_saved": False, "model_loaded": False, "error": error})

    def detect(self, pixels: Pixels, call: Call) -> Reply:
        """The objects of a picture, f32 [20, 6] as bytes.

        Args:
            pixels: u8 [H, W, 3], RGB.
            call: the request.

        Raises:
            RequestError: the model finds no boxes, or is not there.
        """
        pipeline, request = self._pool.pick(self.model, None, call.headers), call.request()
        height, width = pixels.shape[:2]
        row = _row(pipeline.picture_path().picture_input, pixels)
        answer, _ = pipeline.see(ScaledPicture(row, width, height), request, mask=False)
        if "detections" not in answer:
            raise RequestError(self._no_boxes)
        return Reply(200, object_rows(answer["detections"], width, height).tobytes(), [])


def _row(picture_input: PictureInput, pixels: Pixels) -> Pixels:
    """The pixels as the model's input has them, u8 [H, W, C]."""
    code = _FROM_RGB[picture_input.decoder.order]
    ordered = pixels if code is None else cv2.cvtColor(pixels, code)
    resizer = picture_input.resizer
    row: Pixels = np.empty((resizer.height, resizer.width, picture_input.channels), np.uint8)
    resizer.into(row, ordered)  # type: ignore[arg-type]  # OpenCV's arrays have no type
    return row
