"""Values that OpenVINO's CPU plugin computes as others are refused; that it does so is tested too."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from cpuserve.errors import RequestError
from cpuserve.protocols.tensor import ANY_VALUE
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.value_range import check_values


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int64", 1 << 31),
        ("int64", -(1 << 31) - 1),
        ("int64", (1 << 63) - 1),
        ("uint64", 1 << 31),
        ("uint64", (1 << 63) + 5),
        ("uint32", 1 << 31),
    ],
)
def test_whole_numbers_beyond_32_bits(dtype, value):
    with pytest.raises(RequestError, match=rf"'x' has the value {value}: .* 32 bits .* 2147483647"):
        check_values("x", np.array([[1, value]], dtype))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint32"])
def test_openvino_computes_whole_numbers_in_32_bits(dtype):
    parameter = op.parameter([-1], dtype=np.dtype(dtype).type)
    model = ov.Model([op.result(op.convert(op.add(parameter, parameter), "f32"))], [parameter])
    found = openvino_core().compile_model(model, "CPU")([np.array([7, 3_000_000_000], dtype)])[0]
    assert found[0] == 14
    assert found[1] != 6_000_000_000


@pytest.mark.parametrize(
    "dtype", ["int64", "uint64", "uint32", "int32", "uint8", "float32", "bool", "float64"]
)
def test_values_that_are_computed_as_they_are(dtype):
    for value in ((1 << 31) - 1, 0, 1):
        check_values("x", np.array([value]).astype(dtype))
    check_values("x", np.empty((0, 2), dtype))
    check_values("x", np.array([-1, -(1 << 31)], "int64"))
    check_values("x", np.array([np.nan, -3e38, 3e38], "float64"))


def test_floats_beyond_32_bits():
    with pytest.raises(RequestError, match=r"the value 1e\+300: .*3\.40282e\+38"):
        check_values("x", np.array([1, 1e300]))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_openvino_makes_the_largest_number_of_an_infinity_of_64_bits(value):
    parameter = op.parameter([-1], dtype=np.float64)
    model = ov.Model([op.result(op.relu(op.abs(parameter)))], [parameter])
    found = openvino_core().compile_model(model, "CPU")([np.array([value])])[0]
    assert np.isfinite(found).all()
    with pytest.raises(RequestError, match=r"the value -?inf: OpenVINO computes floats in 32 bits"):
        check_values("x", np.array([1, value]))


def test_truth_values_other_than_0_and_1():
    with pytest.raises(RequestError, match="the value 7; BOOL is 0 or 1"):
        check_values("x", np.frombuffer(b"\0\1\7", "bool"))


def test_only_types_without_such_limits_are_copied_unchecked():
    assert {"INT64", "UINT64", "UINT32", "FP64", "BOOL", "BYTES"}.isdisjoint(ANY_VALUE)
    assert {"FP32", "FP16", "INT32", "INT16", "UINT16", "INT8", "UINT8"} == ANY_VALUE
