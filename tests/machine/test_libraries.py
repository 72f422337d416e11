"""What a process has mapped: from written trees, and from this very process."""

from __future__ import annotations

import os

import pytest

from cpuserve.machine.libraries import Libraries
from tests.machine.trees import Tree


def process(tree: Tree, pid: int, *files: str, environ: str = "") -> None:
    """A process that has ``files`` mapped."""
    lines = [f"7f00-7f01 r-xp 00000000 08:01 {100 + number} {file}" for number, file in enumerate(files)]
    lines += ["7f02-7f03 rw-p 00000000 00:00 0", "7f04-7f05 rw-p 00000000 00:00 0 [heap]"]
    tree.put(f"proc/{pid}/maps", "\n".join(lines))
    tree.put(f"proc/{pid}/environ", environ)


@pytest.mark.parametrize(
    ("files", "allocator"),
    [
        (["/usr/lib/x86_64-linux-gnu/libc.so.6"], "glibc"),
        (["/usr/lib/libc-2.31.so"], "glibc"),
        (["/lib/libc.so.6", "/usr/lib/libjemalloc.so.2"], "jemalloc"),
        (["/lib/libc.so.6", "/opt/with blank/libtcmalloc_minimal.so.4"], "tcmalloc"),
        (["/lib/ld-musl-x86_64.so.1"], "musl"),
        ([], ""),
    ],
)
def test_allocator(tmp_path, files, allocator):
    process(Tree(tmp_path), 7, *files)
    found = Libraries.read(7, tmp_path)
    assert found is not None
    assert found.allocator == allocator


def test_openmp_runtimes_and_variables(tmp_path):
    tree = Tree(tmp_path)
    files = [
        "/a/libgomp-e985bcbb.so.1.0.0",
        "/a/libgomp-e985bcbb.so.1.0.0",
        "/b/libiomp5.so",
        "/c/libtbb.so.12",
    ]
    environ = "HOME=/root\0OMP_NUM_THREADS=4\0KMP_AFFINITY=compact\0OMPI_X=1\0SECRET_OMP_KEY=1"
    process(tree, 7, *files, "/d/libomp_helper.so", environ=environ)
    tree.put("proc/7/smaps_rollup", "Rss: 100 kB\nAnonHugePages:      2048 kB")
    tree.put("proc/7/status", "Name:\tx\nRssAnon:\t    4096 kB")
    found = Libraries.read(7, tmp_path)
    assert found is not None
    assert found.openmp == ("libgomp-e985bcbb.so.1.0.0", "libiomp5.so")
    assert found.tbb
    assert found.variables == ("KMP_AFFINITY=compact", "OMP_NUM_THREADS=4")
    assert (found.huge_bytes, found.anonymous_bytes) == (2 << 20, 4 << 20)


def test_a_process_that_is_gone(tmp_path):
    assert Libraries.read(7, tmp_path) is None


def test_this_process():
    found = Libraries.read(os.getpid())
    assert found is not None
    assert found.allocator in {"glibc", "musl", "jemalloc", "tcmalloc"}
    assert found.anonymous_bytes is not None
    assert found.anonymous_bytes > 1 << 20
