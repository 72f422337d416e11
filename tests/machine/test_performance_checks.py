"""Instructions, governor, allocator, huge pages, OpenMP: the level and what the line says."""

from __future__ import annotations

import dataclasses

import pytest

from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.libraries import Libraries
from cpuserve.machine.performance_checks import judge_allocator, judge_openmp, judge_pages, judge_processor
from cpuserve.machine.topology import Topology
from tests.machine import trees

TBB = Libraries(tbb=True, allocator="glibc")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    root = trees.one_cpu(tmp_path_factory.mktemp("one") / "tree").root
    return Fingerprint.read(root, Budget.read(root), Topology.read(root))


@pytest.mark.parametrize(
    ("flags", "level", "said"),
    [
        (("amx_int8", "avx512_vnni", "avx512f", "avx2"), "green", "VNNI yes, BF16 no, AMX yes"),
        (("avx_vnni", "avx2"), "green", "AVX2 yes, AVX512 no, VNNI yes"),
        (("avx2",), "green", "VNNI no"),
        (("avx512f",), "yellow", "AVX2 no"),
        (("i8mm", "bf16", "asimddp", "asimd"), "green", "int8 matrix yes, BF16 yes"),
        ((), "yellow", "not shown"),
    ],
)
def test_instruction_sets(machine, flags, level, said):
    found = judge_processor(dataclasses.replace(machine, flags=flags, governor="performance"))
    assert [finding.level for finding in found] == [level, "green"]
    assert said in found[0].text


def test_governor(machine):
    (_, found) = judge_processor(dataclasses.replace(machine, flags=("avx2",), governor="powersave"))
    assert found.level == "yellow"
    assert "cpupower" in found.advice
    (_, found) = judge_processor(dataclasses.replace(machine, flags=("avx2",), governor=""))
    assert found.level == "green"


def test_without_a_runtime_openmp_variables_have_no_effect():
    set_in_vain = dataclasses.replace(TBB, variables=("KMP_AFFINITY=compact", "MKL_NUM_THREADS=2"))
    (found,) = judge_openmp([set_in_vain, TBB])
    assert found.level == "green"
    assert found.text.startswith("no OpenMP runtime is mapped: OMP_NUM_THREADS")
    assert "have no effect (KMP_AFFINITY=compact is set); OpenVINO computes with oneTBB" in found.text


@pytest.mark.parametrize(
    ("runtimes", "variables", "level"),
    [
        (("libgomp.so.1",), (), "green"),
        (("libgomp.so.1",), ("OMP_NUM_THREADS=2", "OMP_PROC_BIND=false"), "green"),
        (("libgomp.so.1",), ("OMP_PROC_BIND=true",), "yellow"),
        (("libiomp5.so",), ("KMP_AFFINITY=compact",), "yellow"),
        (("libiomp5.so",), ("KMP_AFFINITY=disabled",), "green"),
        (("libgomp.so.1", "libiomp5.so"), (), "yellow"),
    ],
)
def test_with_a_runtime_they_have(runtimes, variables, level):
    (found,) = judge_openmp([dataclasses.replace(TBB, openmp=runtimes, variables=variables)])
    assert found.level == level
    assert all(name in found.text for name in runtimes)
    assert bool(found.advice) == (level == "yellow")


def test_allocators():
    assert judge_allocator([]) == []
    assert judge_allocator([TBB])[0].text == "allocator: glibc"
    assert judge_allocator([dataclasses.replace(TBB, allocator="musl")])[0].level == "yellow"
    assert judge_allocator([Libraries()])[0].text == "allocator: not known"


def test_huge_pages(tmp_path):
    tree = trees.Tree(tmp_path).put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    tree.put("proc/sys/vm/nr_hugepages", "8")
    (found,) = judge_pages(tmp_path, [dataclasses.replace(TBB, huge_bytes=0)])
    assert (
        found.text == "transparent huge pages: madvise; 0 MiB of the workers' memory is in them; reserved: 8"
    )
    assert "GLIBC_TUNABLES" in found.advice
    (found,) = judge_pages(tmp_path, [dataclasses.replace(TBB, huge_bytes=4 << 20)])
    assert not found.advice
    assert judge_pages(tmp_path / "none", [])[0].text == "transparent huge pages: not shown; reserved: 0"
