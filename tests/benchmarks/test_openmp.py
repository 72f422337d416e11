"""What OpenMP's variables do to a real server with a head in PyTorch; facts are asserted, no times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.fixtures.stem_network import publish, weights
from benchmarks.openmp import VARIABLES, cases, loads, measure, server_kinds
from benchmarks.openmp_effects import AGAIN, Case, judge
from cpuserve.machine.launch import find_library, library_folders
from cpuserve.measuring.pictures import pictures

AFFINITY = dict(VARIABLES)["KMP_AFFINITY"]


def test_every_process_is_started_twice_without_variables_and_once_with_each():
    kinds = server_kinds(Path("/x/libiomp5.so"))
    assert [kind.preload for kind in kinds] == ["", "", "/x/libiomp5.so"]
    assert len(server_kinds(None)) == 2
    assert [case.environment for case in cases(kinds[0])] == [
        "",
        AGAIN,
        *(f"{name}={value}" for name, value in VARIABLES),
    ]


def test_the_stem_has_the_same_weights_every_time():
    first, second = weights(), weights()
    assert [stride for _, stride in first] == [2, 1, 2]
    assert all((one == other).all() for (one, _), (other, _) in zip(first, second, strict=True))


def test_all_cores_have_a_client():
    assert loads(16)["a client a core"].connections == 16


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("stem"), 1).root


@pytest.fixture
def looked(repository):
    def look(kind, name="", value=""):
        with pictures(None) as sent:
            return measure(kind, Case(kind.name, name, value), repository, sent.files, 0.4, 1)

    return look


@pytest.mark.frameworks
def test_openvino_maps_no_openmp_and_pytorch_maps_libgomp(looked):
    whole, gomp = server_kinds(None)
    plain = looked(whole, "KMP_AFFINITY", AFFINITY)
    assert plain.openmp == ()
    assert plain.tbb
    assert plain.cpus == len(os.sched_getaffinity(0))
    same = [plain]
    (verdict,) = judge({Case("p"): same, Case("p", AGAIN): same, Case("p", "KMP_AFFINITY", "c"): same})
    assert verdict.words == "no effect, TBB build"
    head = looked(gomp, "KMP_AFFINITY", AFFINITY)
    assert [name.split(".")[0] for name in head.openmp] == ["libgomp"]
    assert set(head.masks) == set(plain.masks)  # nobody has read it


@pytest.mark.frameworks
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU cannot shrink")
def test_libiomp5_narrows_the_threads_when_it_is_told_to(looked):
    library = find_library("libiomp5", library_folders())
    assert library is not None, "pip install intel-openmp"
    intel = server_kinds(library)[-1]
    plain, compact = looked(intel), looked(intel, "KMP_AFFINITY", AFFINITY)
    assert any("iomp5" in name for name in compact.openmp)
    assert all("-" in mask or "," in mask for mask in plain.masks)
    assert any(mask.isdigit() for mask in compact.masks)
    (verdict,) = judge(
        {Case("p"): [plain], Case("p", AGAIN): [plain], Case("p", "KMP_AFFINITY", AFFINITY): [compact]}
    )
    assert "affinity shrank to 1 CPU" in verdict.why
