import ast
from importlib.util import find_spec
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


@pytest.mark.parametrize("name", [name for stage in STAGES for name in stage.modules])
def test_every_module_of_a_stage_exists(name):
    assert find_spec(name) is not None


@pytest.mark.parametrize(("module", "names"), IDLE_FUNCTIONS)
def test_every_idle_function_exists(module, names):
    found = find_spec(module)
    tree = ast.parse(Path(found.origin).read_text())
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
def test_a_frame_is_in_the_stage_of_its_module(frame, stage):
    assert stage_of(frame) == stage
