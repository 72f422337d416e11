"""One core a process: signals end nothing, whatever was compiled and dropped, in whichever thread."""

from __future__ import annotations

import ast
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
