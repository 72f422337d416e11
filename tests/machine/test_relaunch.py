"""An allocator is loaded ahead of the program once; none that is asked for by name is left out in silence."""

from __future__ import annotations

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.machine.relaunch import relaunched


@pytest.fixture
def env(tmp_path):
    folder = tmp_path / ".local" / "lib"
    folder.mkdir(parents=True)
    (folder / "libjemalloc.so.2").touch()
    return {"HOME": str(tmp_path), "LANG": "C"}


def test_the_library_is_added_to_what_is_preloaded_already(env, tmp_path):
    file = str(tmp_path / ".local/lib/libjemalloc.so.2")
    assert relaunched("jemalloc", {}, env) == {**env, "LD_PRELOAD": file}
    assert relaunched("jemalloc", {}, {**env, "LD_PRELOAD": "/x.so"})["LD_PRELOAD"] == f"/x.so:{file}"


def test_it_happens_once_and_only_when_it_is_asked_for(env):
    assert relaunched("none", {"LANG": "en"}, env) is None
    assert relaunched("jemalloc", {}, relaunched("jemalloc", {}, env)) is None
    assert relaunched("auto", {}, {**env, "LD_PRELOAD": "/opt/libtcmalloc_minimal.so.4"}) is None


def test_variables_are_added_where_they_are_not_set(env):
    more = {"LANG": "en", "OMP_NUM_THREADS": "1"}
    assert relaunched("none", more, env) == {**env, "OMP_NUM_THREADS": "1"}


def test_one_that_is_not_there_is_named(env):
    with pytest.raises(CpuserveError, match=r"--allocator tcmalloc: no libtcmalloc_minimal\.so"):
        relaunched("tcmalloc", {}, env)
