"""Specialised networks of the user's own: what is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import Type
from openvino import opset13 as ops

from cpuserve.errors import UsageError
from cpuserve.video.scale import Scale
from cpuserve.video.specialised_cnn import SpecialisedCnn


def write_own(
    path: Path, shape: list[int], kind: Type = Type.u8, *, outputs: int = 1, width: int = 1
) -> Path:
    """A network without metadata that answers the mean of the pixels, 0 to 1."""
    pixels = ops.parameter(shape, kind, name="pixels")
    mean = ops.reduce_mean(ops.convert(pixels, Type.f32), np.array([1, 2, 3]), keep_dims=False)
    answer = ops.reshape(ops.divide(mean, np.float32(255)), np.array([-1, 1]), special_zero=False)
    wide = ops.concat([answer] * width, 1)
    ov.save_model(ov.Model([wide] * outputs, [pixels], "own"), path, compress_to_fp16=False)
    return path


def test_a_network_without_metadata_is_taken_by_its_input(tmp_path):
    network = SpecialisedCnn(write_own(tmp_path / "own.xml", [-1, 24, 32, 1]))
    assert network.scale == Scale(32, 24, "GRAY", "area")
    pixels = np.stack([np.full((24, 32, 1), value, np.uint8) for value in (0, 51, 255)])
    assert network.predict(pixels) == pytest.approx([0, 0.2, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"shape": [-1, 24, 32, 3], "kind": Type.f32}, r"is f32: a specialised network takes u8"),
        ({"shape": [1, 24, 32, 3]}, "its first dimension has to be variable"),
        ({"shape": [-1, 3, 24, 32]}, r"no input \[n, height, width, 1 or 3\]"),
        ({"shape": [-1, -1, -1, 3]}, r"no input \[n, height, width, 1 or 3\]"),
        ({"shape": [-1, 24, 32, 3], "outputs": 2}, "has 1 inputs and 2 outputs"),
        ({"shape": [-1, 24, 32, 3], "width": 2}, r"answers \[n, 1\]"),
    ],
)
def test_networks_of_another_kind_are_refused(tmp_path, given, reason):
    with pytest.raises(UsageError, match=reason):
        SpecialisedCnn(write_own(tmp_path / "own.xml", **given))


def test_files_that_are_no_network_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.xml cannot be read: No such file"):
        SpecialisedCnn(tmp_path / "none.xml")
    path = write_own(tmp_path / "own.xml", [-1, 24, 32, 3])
    path.write_text("<net>")
    with pytest.raises(UsageError, match="is no OpenVINO IR"):
        SpecialisedCnn(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(UsageError, match=r"own\.bin cannot be read"):
        SpecialisedCnn(path)
