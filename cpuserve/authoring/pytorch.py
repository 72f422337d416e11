"""Imports PyTorch programs through OpenVINO's frontend.

`ov.convert_model` is not used: it reports its use over the network unless the user has opted out.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov

from cpuserve.errors import MissingExtra, ModelLoadError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["build_module", "graph_of", "load_archive", "load_weights", "save_weights"]


def load_archive(file: Path, *, exported: bool) -> Any:
    """Loads the program in a file.

    Args:
        file: the file.
        exported: it holds an `ExportedProgram` of torch.export; else a TorchScript module.

    Raises:
        MissingExtra: PyTorch is not installed.
        ModelLoadError: PyTorch refuses the file.
    """
    torch = _torch()
    with _quiet():
        try:
            if exported:
                return torch.export.load(file)
            return torch.jit.load(file, map_location="cpu").eval()
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ModelLoadError(
                f"PyTorch {torch.__version__} cannot load {file.name}: {_first_line(error)}"
            ) from error


def build_module(name: str) -> Any:
    """Builds the `nn.Module` that ``module:callable`` names; the callable takes no arguments.

    Runs the code; the working directory may hold it, as with gunicorn and uvicorn.

    Raises:
        UsageError: there is no such module or name in it.
        MissingExtra: PyTorch is not installed.
        ModelLoadError: what the callable gives is no `nn.Module`.
    """
    torch = _torch()
    place, _, attribute = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot import {name}: {error}") from error
    if inspect.isclass(found) or not isinstance(found, torch.nn.Module):
        found = found()
    if not isinstance(found, torch.nn.Module):
        raise ModelLoadError(f"{name} gives {type(found).__name__}, not a torch.nn.Module")
    return found.eval()


def save_weights(module: Any, folder: Path) -> Path:
    """Writes the parameters and buffers of a module into a directory, and returns the file."""
    file = folder / "weights.pt"
    _torch().save(module.state_dict(), file)
    return file


def load_weights(module: Any, file: Path) -> None:
    """Gives a module the parameters and buffers that `save_weights` wrote."""
    module.load_state_dict(_torch().load(file, weights_only=True))


def graph_of(program: Any, shapes: Sequence[ov.PartialShape]) -> ov.Model:
    """Imports an `ExportedProgram`, a TorchScript module or an `nn.Module` as a graph.

    Args:
        program: the program.
        shapes: shapes of the inputs to export an `nn.Module` with; the others need none.

    Raises:
        UsageError: an `nn.Module` without the shapes of its inputs.
        ModelLoadError: PyTorch cannot export it or OpenVINO cannot import it.
    """
    torch = _torch()
    from openvino.frontend import FrontEndManager  # noqa: PLC0415 - these import torch
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # noqa: PLC0415
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: PLC0415

    with _quiet():
        try:
            if isinstance(program, torch.jit.ScriptModule):
                decoder = TorchScriptPythonDecoder(program)
            else:
                if not isinstance(program, torch.export.ExportedProgram):
                    program = torch.export.export(program, _examples(shapes))
                decoder = TorchFXPythonDecoder.from_exported_program(program)
            frontend = FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))
        except (RuntimeError, ValueError, TypeError) as error:
            raise ModelLoadError(f"PyTorch's program cannot be imported: {_first_line(error)}") from error
    if isinstance(program, torch.export.ExportedProgram):
        _fix_sides(model, program)
    return model


def _examples(shapes: Sequence[ov.PartialShape]) -> tuple[torch.Tensor, ...]:
    torch = _torch()
    if not shapes or any(shape.rank.is_dynamic for shape in shapes):
        raise UsageError("a PyTorch module is exported with a shape: add --input [1,3,224,224]")
    return tuple(
        torch.zeros([side.get_length() if side.is_static else 1 for side in shape]) for shape in shapes
    )


def _fix_sides(model: ov.Model, program: Any) -> None:
    """Sets the input shapes that the program was exported with; OpenVINO's frontend leaves some open."""
    users = set(program.graph_signature.user_inputs)
    values = [
        node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in users
    ]
    shapes = {
        port: ov.PartialShape([side if isinstance(side, int) else -1 for side in value.shape])
        for port, value in zip(model.inputs, values, strict=True)
    }
    model.reshape(shapes)


def _torch() -> Any:
    try:
        import torch  # noqa: PLC0415 - an extra, and slow to load
    except ImportError as error:
        raise MissingExtra("PyTorch models need torch", "train") from error
    return torch


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides warnings of PyTorch and OpenVINO about each other."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[
        :400
    ]
