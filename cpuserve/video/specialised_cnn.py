"""A small network that knows one object before one camera: how likely is it that the object is there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.decode import Pixels
from cpuserve.serving.engine import Array
from cpuserve.video.scale import Scale

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["CNN_SCALE", "SpecialisedCnn", "as_ir", "set_scale"]

CNN_SCALE = Scale(50, 50, "RGB", "area")
_INFO = "cpuserve_video"  # the section of the IR's metadata
_KEYS = ("width", "height", "colour", "scaler")


class SpecialisedCnn:
    """A network of one input u8 [n, h, w, c] and one output f32 [n, 1], compiled for one thread.

    Attributes:
        name: of the file, without its ending.
        scale: what frames have to be scaled to; from the metadata of the IR.
        checksum: SHA-256 of the IR and its weights.

    Args:
        path: the ``.xml`` of the IR.

    Raises:
        UsageError: the file cannot be read, or is no such network.
    """

    def __init__(self, path: Path) -> None:
        # takes long; decoder processes without a CNN do without
        from cpuserve.serving.openvino_core import openvino_core  # noqa: PLC0415

        self.name = path.stem
        try:
            self.checksum = _checksum(path)
        except OSError as error:
            raise UsageError(f"the network {error.filename} cannot be read: {error.strerror}") from error
        core = openvino_core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise UsageError(f"{path} is no OpenVINO IR: {str(error).strip().splitlines()[-1]}") from error
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise UsageError(
                f"{path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs: a specialised "
                "network has one of each"
            )
        self.scale = _scale_of(path, model)
        _check_ports(path, model, self.scale)
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # a threshold has to mean the same on every machine
            "ENABLE_CPU_PINNING": False,
        }
        self._request = core.compile_model(model, "CPU", properties).create_infer_request()

    def predict(self, pixels: Pixels) -> Array:
        """Probability that the object is there, f32 [n].

        Args:
            pixels: u8 [n, h, w, c] of the network's scale.
        """
        found = self._request.infer({0: np.ascontiguousarray(pixels)}, share_inputs=True)
        return np.asarray(found[0], np.float32).reshape(-1).copy()


def as_ir(path: Path, folder: Path) -> Path:
    """The IR of a network of the user's own: the file itself, or one made of an ONNX file.

    Args:
        path: an IR's ``.xml``, or an ``.onnx``.
        folder: where an IR is written.

    Raises:
        UsageError: the ONNX file cannot be read.
    """
    if path.suffix != ".onnx":
        return path
    import openvino as ov  # noqa: PLC0415  # takes long

    if not path.is_file():
        raise UsageError(f"the network {path} cannot be read: there is no such file")
    from cpuserve.serving.openvino_core import openvino_core  # noqa: PLC0415

    try:
        model = openvino_core().read_model(path)
    except RuntimeError as error:
        raise UsageError(f"{path} is no ONNX file: {str(error).strip().splitlines()[-1]}") from error
    made = folder / f"{path.stem}.xml"
    ov.save_model(model, made, compress_to_fp16=False)
    return made


def set_scale(model: ov.Model, scale: Scale) -> None:
    """Keeps in the metadata of a network what frames have to be scaled to."""
    for key in _KEYS:
        model.set_rt_info(str(getattr(scale, key)), [_INFO, key])


def _scale_of(path: Path, model: ov.Model) -> Scale:
    """The scale in the metadata; what the input says where there is none.

    Raises:
        UsageError: neither says a size.
    """
    if model.has_rt_info([_INFO, "scaler"]):
        read: dict[str, Any] = {key: model.get_rt_info([_INFO, key]).astype(str) for key in _KEYS}
        return Scale(int(read["width"]), int(read["height"]), read["colour"], read["scaler"])
    sides = _sides(model.inputs[0].get_partial_shape())
    if len(sides) != 4 or sides[1] < 1 or sides[2] < 1 or sides[3] not in (1, 3):
        raise UsageError(
            f"{path} has no input [n, height, width, 1 or 3] of a fixed size: a specialised network takes u8 "
            "pixels in that order"
        )
    return Scale(sides[2], sides[1], "RGB" if sides[3] == 3 else "GRAY", CNN_SCALE.scaler)


def _sides(shape: Any) -> list[int]:
    """The sides of a shape of OpenVINO, -1 for a variable one; empty where even their number varies."""
    if shape.rank.is_dynamic:
        return []
    return [-1 if side.is_dynamic else side.get_length() for side in shape]


def _check_ports(path: Path, model: ov.Model, scale: Scale) -> None:
    """Refuses a network that does not take u8 pixels or does not answer one probability a frame.

    Raises:
        UsageError: it does not.
    """
    port, answer = model.inputs[0], model.outputs[0]
    if port.get_element_type().get_type_name() != "u8":
        raise UsageError(
            f"the input of {path} is {port.get_element_type().get_type_name()}: a specialised network takes "
            "u8 pixels"
        )
    shape = port.get_partial_shape()
    if _sides(shape)[:1] != [-1]:
        raise UsageError(f"the input of {path} is {shape}: its first dimension has to be variable")
    wanted = [-1, scale.height, scale.width, 1 if scale.colour == "GRAY" else 3]
    if _sides(shape) != wanted:
        raise UsageError(f"the input of {path} is {shape}, and its metadata says {wanted}")
    if _sides(answer.get_partial_shape()) not in ([-1], [-1, 1]):
        raise UsageError(
            f"the output of {path} is {answer.get_partial_shape()}: a specialised network answers [n, 1]"
        )


def _checksum(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes())
    digest.update(path.with_suffix(".bin").read_bytes())
    return digest.hexdigest()
