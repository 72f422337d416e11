"""Streams and threads of a worker: what follows from what is set, and what cannot be."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import UsageError
from cpuserve.serving.compile_properties import own_weights, stream_properties, streams_and_threads
from cpuserve.serving.loader import Compiler
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.statistics import Statistics
from cpuserve.settings import Settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (4, 4)),
        ({"streams": 1}, (1, 4)),
        ({"streams": 6}, (6, 6)),
        ({"inference_threads": 2}, (2, 2)),
        ({"inference_threads": 8}, (4, 8)),
        ({"streams": 2, "inference_threads": 8}, (2, 8)),
    ],
)
def test_what_is_not_set_follows_from_the_seat(settings, expected):
    assert streams_and_threads(Settings(**settings), 4) == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"streams": 3, "inference_threads": 2}, "streams 3 with inference_threads 2"),
        ({"inference_threads": 9}, "inference_threads 9, but a seat has 8 CPUs: give --inference-threads 8"),
        ({"streams": 9}, "streams 9, but a seat has 8 CPUs"),
        (
            {"share_weights": False, "streams": 3, "inference_threads": 4},
            "share_weights false compiles the model once a stream, but 4 inference_threads cannot be divided",
        ),
        ({"share_weights": False, "enable_cpu_pinning": True}, "but enable_cpu_pinning puts all of them"),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings, words):
    with pytest.raises(UsageError) as caught:
        streams_and_threads(Settings(**settings), 4, 8)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "threads", "expected"),
    [
        ({}, 2, True),
        ({}, 4, True),
        ({}, 5, False),
        ({"share_weights": False}, 5, True),
        ({"share_weights": True}, 2, False),
        ({"enable_cpu_pinning": True}, 2, False),
        ({"streams": 1}, 2, False),  # threads that compute one batch together
        ({"streams": 1, "share_weights": False}, 2, True),
    ],
)
def test_few_streams_have_weights_of_their_own_unless_somebody_says(settings, threads, expected):
    assert own_weights(Settings(**settings), threads) is expected


def test_nothing_is_asked_of_openvino_that_nobody_set():
    assert stream_properties(Settings(), 4) == {}
    settings = Settings(streams=2, enable_cpu_pinning=True, scheduling_core_type="pcore_only")
    assert stream_properties(settings, 4) == {
        "NUM_STREAMS": 2,
        "INFERENCE_NUM_THREADS": 4,
        "ENABLE_CPU_PINNING": True,
        "SCHEDULING_CORE_TYPE": "PCORE_ONLY",
    }


def test_openvino_has_them_in_force():
    entry = ops.parameter((1, 4), np.float32, name="data")
    model = ov.Model([ops.result(ops.multiply(entry, np.float32(2)))], [entry])
    recorder = Statistics(rows=1, models=1).recorder(0, "m", 1)

    def in_force(**settings):
        properties = stream_properties(Settings(**settings), 2)
        engine = Compiler(openvino_core(), "", 2, properties, recorder).engine(model, [1])
        return engine.streams, engine.read_back()

    streams, found = in_force()
    assert (streams, found["NUM_STREAMS"], found["ENABLE_CPU_PINNING"]) == (2, "2", "False")
    streams, found = in_force(streams=1, enable_cpu_pinning=True)
    assert streams == 1
    assert (found["NUM_STREAMS"], found["INFERENCE_NUM_THREADS"]) == ("1", "2")
    assert found["ENABLE_CPU_PINNING"] == "True"
