"""Libraries are found where they are, and nothing the user has set is overridden."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.machine.launch import Preload, environment, find_library, folders, preload
from cpuserve.machine.placement import Seat

SEAT = Seat(3, 1, (4, 5, 6, 7), 4, 1)


@pytest.fixture
def libraries(tmp_path):
    """Two folders, the second with all there is."""
    for name in (
        "first/libx.so",
        "second/libjemalloc.so.2",
        "second/libtcmalloc_minimal.so.4",
        "second/libiomp5.so",
    ):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return tmp_path / "first", tmp_path / "second"


def test_auto_takes_the_first_that_is_there(libraries):
    first, second = libraries
    assert preload("auto", "auto", libraries, {}) == Preload(
        second / "libjemalloc.so.2", second / "libiomp5.so"
    )
    (second / "libjemalloc.so.2").unlink()
    assert preload("auto", "none", libraries, {}).allocator == second / "libtcmalloc_minimal.so.4"
    assert preload("auto", "auto", [first], {}) == Preload(missing=("jemalloc", "tcmalloc", "libiomp5"))
    assert preload("none", "none", libraries, {}) == Preload()


def test_a_name_that_is_not_there_is_refused(libraries):
    with pytest.raises(CpuserveError, match=r"--allocator jemalloc: no libjemalloc.so in .*first"):
        preload("jemalloc", "none", libraries[:1], {})
    with pytest.raises(CpuserveError, match="--openmp libiomp5"):
        preload("none", "libiomp5", libraries[:1], {})


def test_the_users_own_preload_stays_the_only_one_of_its_kind(libraries):
    user = {"LD_PRELOAD": "/mine/libtcmalloc.so:/mine/libgomp.so.1"}
    assert preload("jemalloc", "auto", libraries, user) == Preload()
    other = {"LD_PRELOAD": "/mine/libfake.so"}
    found = preload("jemalloc", "none", libraries, other)
    assert environment(SEAT, found, other)["LD_PRELOAD"] == f"/mine/libfake.so:{found.allocator}"


def test_the_plain_name_goes_before_versions_and_the_highest_before_others(tmp_path):
    for name in ("libjemalloc.so.1", "libjemalloc.so.10", "libjemalloc.so.9"):
        (tmp_path / name).touch()
    assert find_library("jemalloc", [tmp_path]) == tmp_path / "libjemalloc.so.10"
    (tmp_path / "libjemalloc.so").touch()
    assert find_library("jemalloc", [tmp_path]) == tmp_path / "libjemalloc.so"
    (tmp_path / "libtcmalloc.so.4").touch()
    assert find_library("tcmalloc", [tmp_path]) == tmp_path / "libtcmalloc.so.4"
    assert find_library("libiomp5", [tmp_path]) is None


def test_places(tmp_path):
    (tmp_path / "lib").mkdir()
    found = folders({"CONDA_PREFIX": str(tmp_path), "HOME": "/nonexistent"})
    assert tmp_path / "lib" in found
    assert Path("/usr/lib") in found
    assert found.index(tmp_path / "lib") < found.index(Path("/usr/lib"))
    assert all(place.is_dir() for place in found)


def test_variables_of_a_program_that_computes_with_its_whole_seat():
    assert environment(SEAT, Preload(), {}) == {
        "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",
        "NUMEXPR_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
        "CPUSERVE_SEAT": "3",
    }


def test_intels_variables_only_with_its_runtime_and_never_over_the_users():
    intel = Preload(openmp=Path("/x/libiomp5.so"))
    added = environment(SEAT, intel, {"KMP_BLOCKTIME": "200", "OMP_NUM_THREADS": "2"})
    assert added["KMP_AFFINITY"] == "granularity=fine,compact,1,0"
    assert added["LD_PRELOAD"] == "/x/libiomp5.so"
    assert not {"KMP_BLOCKTIME", "OMP_NUM_THREADS", "GOMP_CPU_AFFINITY"} & set(added)
    assert environment(SEAT, intel, {})["KMP_BLOCKTIME"] == "1"
