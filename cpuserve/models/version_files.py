"""Finds the one model in the directory of a version, or says what is wrong with the directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cpuserve.errors import RepositoryError
from cpuserve.models.model_files import SAVED_MODEL

__all__ = ["PADDLE_PIR", "entries_of", "ir_in", "may_hold", "model_in"]

_SHOWN = 3  # directories that a message names
_FORMATS = (".onnx", ".tflite", ".pb", ".pdmodel")
_TORCH = "a PyTorch file: `cpuserve convert` makes an OpenVINO IR of it"
_KERAS = "a Keras file: save a SavedModel with `model.export(DIRECTORY)`"
_NOT_READ = {  # by OpenVINO's runtime: what the file is, and what to do
    **dict.fromkeys((".pt", ".pth", ".pt2", ".ts", ".torchscript"), _TORCH),
    **dict.fromkeys((".keras", ".h5"), _KERAS),
}
PADDLE_PIR = (
    "a PaddlePaddle program in the PIR format, which OpenVINO does not read: export it with "
    "FLAGS_enable_pir_api=0, which writes a .pdmodel, or as ONNX with paddle2onnx"
)


def entries_of(directory: Path) -> list[str]:
    """Sorted names of what is in a directory; none where there is no such directory.

    Raises:
        RepositoryError: it cannot be listed.
    """
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RepositoryError(f"cannot list {directory}: {error.strerror}") from error


def may_hold(look: Callable[[], object]) -> bool:
    """Whether a look finds models; also where a directory cannot be read: opening it gives the reason.

    Args:
        look: gives what there is, or, as a text, why there is nothing.
    """
    try:
        found = look()
    except (RepositoryError, OSError):
        return True
    return bool(found) and not isinstance(found, str)


def ir_in(directory: Path) -> Path | str:
    """The XML of the one IR in a version directory, or what is wrong with the directory."""
    found = [directory / name for name in entries_of(directory) if name.endswith(".xml") and name[0] != "."]
    if len(found) != 1:
        return f"{len(found)} .xml files instead of one"
    if not found[0].is_file() or not found[0].with_suffix(".bin").is_file():
        return f"no {found[0].stem}.bin beside {found[0].name}"
    return found[0]


def model_in(place: Path) -> Path | str:
    """The file, or the one model in a directory: an IR, else a file of another format OpenVINO reads."""
    if place.is_file():
        found = [place]
    else:
        found = [place / name for name in entries_of(place) if name[0] != "."]
        if any(file.suffix == ".xml" for file in found):
            return ir_in(place)
        if place / SAVED_MODEL in found:  # beside it Keras writes other .pb files
            return place / SAVED_MODEL
    models = [file for file in found if file.suffix in (".xml", *_FORMATS)]
    if len(models) != 1:
        for file in found:
            if file.suffix in _NOT_READ:
                return f"{file.name}, {_NOT_READ[file.suffix]}"
            if file.suffix == ".json" and file.with_suffix(".pdiparams").is_file():
                return f"{file.name}, {PADDLE_PIR}"
        inside = [file.name for file in found if file.is_dir() and file.name != "lost+found"]
        said = f"; directories in it are not looked into: {', '.join(inside[:_SHOWN])}" if inside else ""
        return f"{len(models)} files instead of one that ends in {', '.join(['.xml', *_FORMATS])}{said}"
    if models[0].suffix == ".xml" and not models[0].with_suffix(".bin").is_file():
        return f"no {models[0].stem}.bin beside {models[0].name}"
    if models[0].suffix == ".pdmodel" and not models[0].with_suffix(".pdiparams").is_file():
        return f"no {models[0].stem}.pdiparams beside {models[0].name}"
    return models[0]
