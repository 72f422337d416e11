"""Libraries are found where they are, and nothing the user has set is overridden."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.machine.launch import (
    Preload,
    find_library,
    find_preload,
    library_folders,
    program_environment,
    relaunch_environment,
)
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
    assert find_preload("auto", "auto", libraries, {}) == Preload(
        second / "libjemalloc.so.2", second / "libiomp5.so"
    )
    (second / "libjemalloc.so.2").unlink()
    assert find_preload("auto", "none", libraries, {}).allocator == second / "libtcmalloc_minimal.so.4"
    assert find_preload("auto", "auto", [first], {}) == Preload(missing=("jemalloc", "tcmalloc", "libiomp5"))
    assert find_preload("none", "none", libraries, {}) == Preload()


def test_a_name_that_is_not_there_is_refused(libraries):
    with pytest.raises(CpuserveError, match=r"--allocator jemalloc: no libjemalloc.so in .*first"):
        find_preload("jemalloc", "none", libraries[:1], {})
    with pytest.raises(CpuserveError, match="--openmp libiomp5"):
        find_preload("none", "libiomp5", libraries[:1], {})


def test_the_users_own_preload_stays_the_only_one_of_its_kind(libraries):
    user = {"LD_PRELOAD": "/mine/libtcmalloc.so:/mine/libgomp.so.1"}
    assert find_preload("jemalloc", "auto", libraries, user) == Preload()
    other = {"LD_PRELOAD": "/mine/libfake.so"}
    found = find_preload("jemalloc", "none", libraries, other)
    assert program_environment(SEAT, found, other)["LD_PRELOAD"] == f"/mine/libfake.so:{found.allocator}"


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
    found = library_folders({"CONDA_PREFIX": str(tmp_path), "HOME": "/nonexistent"})
    assert tmp_path / "lib" in found
    assert Path("/usr/lib") in found
    assert found.index(tmp_path / "lib") < found.index(Path("/usr/lib"))
    assert all(place.is_dir() for place in found)


def test_variables_of_a_program_that_computes_with_its_whole_seat():
    assert program_environment(SEAT, Preload(), {}) == {
        "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",
        "NUMEXPR_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
        "CPUSERVE_SEAT": "3",
    }


def test_intels_variables_only_with_its_runtime_and_never_over_the_users():
    intel = Preload(openmp=Path("/x/libiomp5.so"))
    added = program_environment(SEAT, intel, {"KMP_BLOCKTIME": "200", "OMP_NUM_THREADS": "2"})
    assert added["KMP_AFFINITY"] == "granularity=fine,compact,1,0"
    assert added["LD_PRELOAD"] == "/x/libiomp5.so"
    assert not {"KMP_BLOCKTIME", "OMP_NUM_THREADS", "GOMP_CPU_AFFINITY"} & set(added)
    assert program_environment(SEAT, intel, {})["KMP_BLOCKTIME"] == "1"


@pytest.fixture
def env(tmp_path):
    folder = tmp_path / ".local" / "lib"
    folder.mkdir(parents=True)
    (folder / "libjemalloc.so.2").touch()
    return {"HOME": str(tmp_path), "LANG": "C"}


def test_the_library_is_added_to_what_is_preloaded_already(env, tmp_path):
    file = str(tmp_path / ".local/lib/libjemalloc.so.2")
    assert relaunch_environment("jemalloc", {}, env) == {**env, "LD_PRELOAD": file}
    assert (
        relaunch_environment("jemalloc", {}, {**env, "LD_PRELOAD": "/x.so"})["LD_PRELOAD"] == f"/x.so:{file}"
    )


def test_it_happens_once_and_only_when_it_is_asked_for(env):
    assert relaunch_environment("none", {"LANG": "en"}, env) is None
    assert relaunch_environment("jemalloc", {}, relaunch_environment("jemalloc", {}, env)) is None
    assert relaunch_environment("auto", {}, {**env, "LD_PRELOAD": "/opt/libtcmalloc_minimal.so.4"}) is None


def test_variables_are_added_where_they_are_not_set(env):
    more = {"LANG": "en", "OMP_NUM_THREADS": "1"}
    assert relaunch_environment("none", more, env) == {**env, "OMP_NUM_THREADS": "1"}


def test_one_that_is_not_there_is_named(env):
    with pytest.raises(CpuserveError, match=r"--allocator tcmalloc: no libtcmalloc_minimal\.so"):
        relaunch_environment("tcmalloc", {}, env)
