"""The table of stages names files and functions that exist, and finds the stage of a frame by them."""

import ast
import sys
from pathlib import Path

import pytest

from cpuserve.serving.stages import (
    BATCH_WAIT,
    COUNTED_STAGES,
    DECODE,
    IDLE_FUNCTIONS,
    INFER,
    POST,
    QUEUE,
    RESIZE,
    SERIALISE,
    STAGE_NAMES,
    STAGES,
    stage_of,
)


def found(file):
    """Where it is, below one of the folders that are imported from."""
    return next((place for folder in sys.path if (place := Path(folder) / file).exists()), None)


@pytest.mark.parametrize("file", [file for stage in STAGES for file in stage.files])
def test_every_file_of_a_stage_exists(file):
    place = found(file)
    assert place is not None
    assert place.is_dir() == file.endswith("/")


@pytest.mark.parametrize(("file", "names"), IDLE_FUNCTIONS)
def test_every_idle_function_exists(file, names):
    tree = ast.parse(found(file).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    missing = set(names) - defined
    assert missing <= {"_wait_for_tstate_lock"}  # Python 3.13 has none


def test_numbers_are_those_of_the_table():
    numbers = (QUEUE, DECODE, RESIZE, BATCH_WAIT, INFER, POST, SERIALISE)
    names = ("queue", "decode", "resize", "batch_wait", "infer", "post", "serialise")
    assert tuple(STAGE_NAMES[number] for number in numbers) == names
    assert set(COUNTED_STAGES) < set(STAGE_NAMES)


@pytest.mark.parametrize(
    ("frame", "stage"),
    [
        ("decode (decode.py:9)", "decode"),
        ("decode (cpuserve/serving/decode.py)", "decode"),
        ("decode_jpeg (simplejpeg/__init__.py:1)", "decode"),
        ("resized (preprocess.py:4)", "resize"),
        ("run (cpuserve/serving/batcher.py:140)", "infer"),
        ("__call__ (openvino/_ov_api.py:3)", "infer"),
        ("answer (cpuserve/serving/postprocess/detection.py:20)", "post"),
        ("infer (cpuserve/protocols/v2.py:33)", "serialise"),
        ("tail (tails.py:4)", None),
        ("tail (mydecode.py:4)", None),
    ],
)
def test_a_frame_is_in_the_stage_of_its_file(frame, stage):
    assert stage_of(frame) == stage
