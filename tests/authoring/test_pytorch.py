"""PyTorch is an extra: without it the message names it, with it its own errors are told in one line."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from cpuserve.authoring.pytorch import build_module, load_archive
from cpuserve.errors import MissingExtra, ModelLoadError, UsageError


@pytest.fixture
def torch(monkeypatch) -> Any:
    """The few names of PyTorch that are needed to load a program, so that the tests need no PyTorch."""
    made: Any = types.ModuleType("torch")
    made.__version__ = "2.0"
    made.nn = types.SimpleNamespace(Module=type("Module", (), {"eval": lambda self: self}))
    monkeypatch.setitem(sys.modules, "torch", made)
    return made


def test_without_pytorch_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for load in (lambda: load_archive(tmp_path / "a.pt", exported=False), lambda: build_module("nets:Net")):
        with pytest.raises(MissingExtra, match=r"pip install 'cpuserve\[train\]'"):
            load()


def test_a_damaged_archive_is_told_in_one_line(tmp_path, torch):
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("\n  not a ZIP archive\nC++ frames follow")

    torch.jit = types.SimpleNamespace(load=refuse)
    with pytest.raises(ModelLoadError, match=r"^PyTorch 2\.0 cannot load a\.pt: not a ZIP archive$"):
        load_archive(tmp_path / "a.pt", exported=False)


def test_a_module_is_built_from_the_working_directory(tmp_path, monkeypatch, torch):
    (tmp_path / "own_nets.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    pass\n\nready = Net()\n\n"
        "def make():\n    return Net()\n\ndef other():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("own_nets:Net", "own_nets:make", "own_nets:ready"):
        assert isinstance(build_module(name), torch.nn.Module)
    with pytest.raises(ModelLoadError, match=r"own_nets:other gives int, not a torch\.nn\.Module"):
        build_module("own_nets:other")
    with pytest.raises(UsageError, match="cannot import own_nets:absent"):
        build_module("own_nets:absent")
    with pytest.raises(UsageError, match="cannot import no_such_nets:Net"):
        build_module("no_such_nets:Net")
