"""Whether tensors fit the inputs of a model, and what is said where they do not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cpuserve.errors import RequestError
from cpuserve.serving.engine import Port
from cpuserve.serving.tensor_checks import check_rows

TYPE = np.dtype(np.float32)
PORTS = [Port(("a",), TYPE, (2,)), Port(("b",), TYPE, ())]


def zeros(*shapes):
    return [np.zeros(shape, TYPE) for shape in shapes]


def test_the_rows_are_counted():
    assert check_rows(PORTS, zeros((3, 2), (3,))) == 3


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (
            ((3, 2), (2,)),
            "input 'b' has 2 rows, input 'a' has 3: all inputs of a request need the same number",
        ),
        (((0, 2), (0,)), "input 'a' has no rows: its shape is [0, 2]; send at least one row"),
        (((3, 2), (0,)), "input 'b' has no rows"),
        (((), (3,)), "input 'a' has shape [-1, 2], not []"),
        (((3, 2), ()), "input 'b' has shape [-1], not []"),
        (((3, 2), (3, 1)), "input 'b' has shape [-1], not [3, 1]"),
        (((3, 4), (3,)), "input 'a' has shape [-1, 2], not [3, 4]"),
    ],
)
def test_tensors_that_are_no_rows_of_the_inputs_are_refused_with_the_reason(shapes, words):
    with pytest.raises(RequestError, match=re.escape(words)):
        check_rows(PORTS, zeros(*shapes))
