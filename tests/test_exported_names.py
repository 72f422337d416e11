"""`import cpuserve` offers a few names on purpose, and loads nothing for them before they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cpuserve
from cpuserve import client, local_model


def test_the_exported_names():
    assert cpuserve.__all__ == dir(cpuserve) == ["Client", "Model", "__version__", "load"]
    assert cpuserve.Client is client.Client
    assert cpuserve.Model is local_model.Model
    assert cpuserve.load is local_model.load
    assert all(hasattr(cpuserve, name) for name in cpuserve.__all__)
    assert isinstance(cpuserve.__version__, str)


def test_an_unknown_name_is_an_attribute_error() -> None:  # annotated, so that mypy has to know it too
    with pytest.raises(AttributeError, match="module 'cpuserve' has no attribute 'serve'"):
        _ = cpuserve.serve  # type: ignore[attr-defined]


def test_a_star_import_takes_the_exported_names_alone():
    names: dict[str, object] = {}
    exec("from cpuserve import *", names)  # noqa: S102
    assert {*names} - {"__builtins__"} == {*cpuserve.__all__}


@pytest.mark.parametrize(
    ("code", "unloaded"),
    [
        ("import cpuserve; dir(cpuserve)", {"openvino", "numpy", "cv2", "flask", "http.client"}),
        ("import cpuserve; cpuserve.Client", {"openvino", "flask"}),
        ("from cpuserve import Client", {"openvino", "flask"}),
        ("import cpuserve; cpuserve.load", {"flask", "gunicorn", "click"}),
    ],
)
def test_imports_do_not_load_what_they_do_not_need(code, unloaded):
    check = f"{code}\nimport sys; sys.exit(', '.join({unloaded} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", check], check=True)
