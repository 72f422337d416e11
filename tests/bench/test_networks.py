"""Figures of networks: what is measured, what is skipped and why, and going on after the end."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cpuserve.bench.networks import (
    NetworkRow,
    NetworksPlan,
    machine_name,
    measure_networks,
    memory_limit_bytes,
)
from cpuserve.errors import MissingExtra, UsageError
from cpuserve.measuring.journal import Journal
from cpuserve.serving.openvino_core import openvino_core

PLAN = NetworksPlan(("squeezenet_v1.1",), ("f32",), (1, 2), 2, 4 << 30)


def run(plan, file=None):
    """The rows, and those of them that were measured just now."""
    seen = []
    rows = measure_networks(plan, Journal(file) if file else None, seen.append)
    assert sorted(seen, key=lambda row: row.cell) == sorted(rows, key=lambda row: row.cell)
    return rows


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """A journal of a finished run of PLAN."""
    file = tmp_path_factory.mktemp("run") / "figures.jsonl"
    rows = run(PLAN, file)
    return file, rows


def test_every_figure_has_its_passes_memory_and_size(figures):
    _, rows = figures
    assert [row.cell for row in rows] == PLAN.cells
    for row in rows:
        assert row.skipped == ""
        assert len(row.passes_ms) == 2
        assert min(row.passes_ms) <= row.ms_per_image <= max(row.passes_ms)
        assert row.ms_per_image > 0.001  # 0.35 G multiply-adds in less would be no computing
        assert row.gmacs == pytest.approx(0.3491, rel=1e-3)
        assert 50 < row.peak_mib < 1000
        assert row.estimated_mib > 50


def test_a_finished_figure_is_not_measured_again(figures, tmp_path):
    file, rows = figures
    copy = tmp_path / "figures.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    copy.write_text("".join(lines[:2]) + lines[2][:25])  # killed while the second was written
    again = run(PLAN, copy)
    assert again[0] == rows[0]
    assert again[1].cell == rows[1].cell
    assert again[1].passes_ms != rows[1].passes_ms
    before = copy.read_bytes()
    assert run(PLAN, copy) == again
    assert copy.read_bytes() == before


def test_a_journal_of_other_conditions_is_refused_with_the_difference(figures):
    file, _ = figures
    with pytest.raises(UsageError, match=r"passes 2, this run is with .*passes 3; choose another --out"):
        run(dataclasses.replace(PLAN, passes=3), file)


def test_what_does_not_fit_is_skipped_before_it_is_compiled_and_judged_again_with_more(figures, tmp_path):
    _, (first, _) = figures
    limit = (first.estimated_mib + 1) << 20
    rows = run(dataclasses.replace(PLAN, limit_bytes=limit), tmp_path / "f.jsonl")
    assert rows[0].ms_per_image is not None
    assert rows[1].ms_per_image is None
    assert rows[1].skipped.startswith("needs about ")
    assert rows[1].skipped.endswith(f"--memory-limit is {first.estimated_mib + 1} MiB")
    small = dataclasses.replace(PLAN, batches=(1,), limit_bytes=1 << 20)
    assert [row.skipped != "" for row in run(small)] == [True]
    kept = Journal(tmp_path / "f.jsonl").read()
    assert kept[-1]["skipped"] == rows[1].skipped
    again = run(PLAN, tmp_path / "f.jsonl")
    assert again[0] == rows[0]
    assert again[1].ms_per_image is not None


def test_a_precision_that_the_cpu_lacks_is_skipped_with_what_it_computes_in_instead():
    capable = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    (row,) = run(dataclasses.replace(PLAN, precisions=("bf16",), batches=(1,)))
    if "BF16" in capable:
        assert row.ms_per_image is not None
    else:
        assert row.skipped == "this CPU has no bf16: OpenVINO computes in f32"


def test_int8_is_quantised():
    (row,) = run(dataclasses.replace(PLAN, precisions=("int8",), batches=(1,), passes=1))
    assert row.ms_per_image is not None
    assert row.spread_ms == 0


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "its process was ended by SIGKILL; if memory ran out, "),
        ("raise RuntimeError('no kernel for this')", "failed: RuntimeError: no kernel for this"),
    ],
)
def test_a_process_that_dies_costs_its_figures_and_not_the_run(program, reason, monkeypatch):
    real = subprocess.Popen

    def dying(command, **how):
        return real([sys.executable, "-c", program], **how)

    monkeypatch.setattr("cpuserve.bench.networks.subprocess.Popen", dying)
    rows = run(PLAN)
    assert [row.cell for row in rows] == PLAN.cells
    assert all(row.skipped.startswith(reason) for row in rows)


def test_the_measuring_process_ends_with_the_one_that_started_it(tmp_path):
    code = (
        "from cpuserve.bench.networks import *\n"
        "from cpuserve.measuring.journal import Journal\n"
        "from pathlib import Path\n"
        "plan = NetworksPlan(('squeezenet_v1.1',), ('f32',), (1, 128), 5, 4 << 30)\n"
        f"journal = Journal(Path({str(tmp_path / 'f.jsonl')!r}))\n"
        "measure_networks(plan, journal, lambda row: print('row', flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        children = f"/proc/{parent.pid}/task/{parent.pid}/children"
        assert parent.stdout.readline() == "row\n"
        with open(children) as file:  # noqa: PTH123  # of the kernel
            (child,) = map(int, file.read().split())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
    kept = Journal(tmp_path / "f.jsonl").read()
    assert kept[0]["machine"] == machine_name()
    assert kept[1]["batch"] == 1


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123  # of the kernel
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": ("resnet51",)}, r"--networks: 'resnet51' is none of mobilenet, .*shufflenet"),
        ({"networks": ()}, r"--networks: there is none of mobilenet"),
        ({"precisions": ("fp32",)}, r"--precisions: 'fp32' is none of f32, bf16, f16, int8"),
        ({"batches": (4, 0)}, r"--batches: \[4, 0\] must be numbers from 1 on"),
        ({"batches": ()}, r"--batches: \[\] must be numbers"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(PLAN, **change)


def test_int8_without_nncf_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtra, match=r"pip install 'cpuserve\[quantize\]'"):
        dataclasses.replace(PLAN, precisions=("int8",))


def test_the_limit_is_less_than_what_is_free():
    assert 100 << 20 < memory_limit_bytes() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_row_survives_json():
    row = NetworkRow("vgg16", "f32", 4, 1.5, 0.1, (1.4, 1.6), 100, 90, 15.47, 0.2)
    assert NetworkRow.of(json.loads(json.dumps(dataclasses.asdict(row)))) == row
