"""An IR that cannot be written is a repository error."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.ir_file import save_ir
from cpuserve.errors import RepositoryError


def test_an_ir_that_cannot_be_written_is_a_repository_error(tmp_path):
    (tmp_path / "model.xml").mkdir()
    data = ops.parameter([1, 2], np.float32, name="data")
    with pytest.raises(RepositoryError, match="cannot write"):
        save_ir(ov.Model([data], [data]), tmp_path)
