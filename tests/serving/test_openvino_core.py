"""One core a process: signals end nothing, whatever was compiled and dropped, in whichever thread."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import gc, os, signal, threading
import numpy as np
import openvino as ov
from openvino import opset13 as op
from cpuserve.serving.openvino_core import openvino_core

taken = []
signal.signal(signal.SIGTERM, lambda number, frame: taken.append(number))
given = op.parameter([1, 4], np.float32)

def compiled():
    return openvino_core().compile_model(ov.Model([op.relu(given)], [given]), "CPU")

def dropped_first_in_first_out():
    first, second = compiled(), compiled()
    del first
    gc.collect()
    del second

def dropped_in_a_thread():
    kept = [compiled()]
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()

def first_made_in_threads():
    threads = [threading.Thread(target=compiled) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

{way}()
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
print(len(taken))
"""


@pytest.mark.parametrize(
    "way", ["dropped_first_in_first_out", "dropped_in_a_thread", "first_made_in_threads"]
)
def test_a_signal_after_models_were_dropped_ends_nothing(way):
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{way}", way)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "1\n", "")


def test_nothing_makes_another_core():
    makers = {
        file.relative_to(ROOT).as_posix()
        for room in ("cpuserve", "benchmarks", "tests")
        for file in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Core"
    }
    assert makers == {"cpuserve/serving/openvino_core.py"}


PINNED = """
import os, threading
from pathlib import Path
import numpy as np
import openvino as ov
from openvino import opset13 as op
from cpuserve.serving.engine import OpenVinoEngine
from cpuserve.serving.geometry import rows_of
from cpuserve.serving.openvino_core import openvino_core

given = op.parameter([-1, 400], np.float32, name="x")
model = ov.Model([op.matmul(given, np.ones((400, 400), np.float32), False, False)], [given])
rows_of(model)  # compiles it to look at it, and drops it
copies = dict(streams=2, threads=2, properties={}, own_weights=True)
engine = OpenVinoEngine(openvino_core(), model, [1], **copies)
slot, going, tids = engine.new_slot(), [True], []

def infer():
    tids.append(threading.get_native_id())
    while going:
        engine.run(slot, [(0, 1)])

thread = threading.Thread(target=infer)
thread.start()
while not tids:
    pass
masks = {frozenset(os.sched_getaffinity(tids[0])) for _ in range(20_000)}
going.clear()
thread.join()
print(masks == {frozenset(os.sched_getaffinity(0))})
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU")
def test_a_model_that_was_looked_at_leaves_the_threads_of_the_next_on_all_cpus():
    found = subprocess.run([sys.executable, "-c", PINNED], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "True\n", "")
