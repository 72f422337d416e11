"""The fingerprint names what decides speed, and nothing that does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from tests.machine import trees

XEON = """processor\t: {cpu}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz
stepping\t: 8
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_bf16 amx_int8 avx_vnni avx512_bf16 rdpid"""

ARM = """processor\t: {cpu}
BogoMIPS\t: 243.75
Features\t: fp asimd asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1"""


def taken(root: Path, **changes) -> Fingerprint:
    return Fingerprint.read(root, Budget.read(root, **changes), Topology.read(root))


@pytest.fixture
def xeon(tmp_path: Path) -> trees.Tree:
    tree = trees.two_sockets(tmp_path)
    tree.put("proc/cpuinfo", "\n\n".join(XEON.format(cpu=cpu) for cpu in range(128)))
    tree.put("proc/meminfo", "MemTotal:  131072000 kB\nMemFree: 1 kB")
    tree.put("proc/sys/kernel/osrelease", "6.1.0-56-amd64")
    for cpu in range(128):
        tree.put(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", "performance")
    return tree


def test_fields(xeon):
    assert taken(xeon.root) == Fingerprint(
        cpu="Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz",
        vendor="GenuineIntel",
        family="6",
        model="143",
        stepping="8",
        flags=("amx_int8", "amx_bf16", "avx512_vnni", "avx512_bf16", "avx512f", "avx_vnni", "avx2"),
        cpus=128,
        cores=64,
        kinds="",
        threads=128,
        quota=None,
        nodes=2,
        smt=True,
        cache_bytes=32 << 20,
        governor="performance",
        memory_bytes=131072000 << 10,
        kernel="6.1.0-56-amd64",
    )


def test_short_is_readable_and_stable(xeon):
    short = taken(xeon.root).short
    assert re.fullmatch(r"intel-xeon-platinum-8480-64c-2n-amxint8-[0-9a-f]{8}", short)
    assert short == taken(xeon.root).short
    half = taken(xeon.root, affinity=[*range(32)])
    assert half.short.startswith("intel-xeon-platinum-8480-32c-1n-")
    assert not half.smt


def test_memory_kernel_and_names_do_not_change_it(xeon):
    before = taken(xeon.root).short
    xeon.put("proc/meminfo", "MemTotal:  65536000 kB").put("proc/sys/kernel/osrelease", "6.12.1")
    xeon.put("proc/sys/kernel/hostname", "somewhere").put("etc/hostname", "somewhere")
    assert taken(xeon.root).short == before


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sys/devices/system/cpu/cpu9/cpufreq/scaling_governor", "powersave"),
        ("proc/cpuinfo", XEON.format(cpu=0).replace("amx_bf16", "")),
        ("proc/cpuinfo", XEON.format(cpu=0).replace("143", "207")),
        ("sys/devices/system/cpu/online", "0-63"),
    ],
)
def test_what_decides_speed_changes_it(xeon, path, text):
    before = taken(xeon.root).short
    xeon.put(path, text)
    assert taken(xeon.root).short != before


def test_quota_changes_it(tmp_path):
    tree = trees.quota(tmp_path).put("proc/cpuinfo", XEON.format(cpu=0))
    short = taken(tree.root).short
    assert "-2c-1n-" in short
    assert taken(tree.root).memory_bytes == 2048 << 20
    tree.put("sys/fs/cgroup/cpu.max", "max 100000")
    assert "-8c-1n-" in taken(tree.root).short


def test_kinds_and_governors(tmp_path):
    tree = trees.laptop(tmp_path).put("proc/cpuinfo", XEON.format(cpu=0))
    for cpu in range(20):
        governor = "performance" if cpu < 12 else "powersave"
        tree.put(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", governor)
    found = taken(tree.root)
    assert (found.kinds, found.cores, found.governor) == ("6P8E", 14, "performance+powersave")


def test_arm(tmp_path):
    tree = trees.big_little(tmp_path).put("proc/cpuinfo", "\n\n".join(ARM.format(cpu=c) for c in range(8)))
    found = taken(tree.root)
    assert (found.vendor, found.family, found.model, found.stepping) == ("0x41", "8", "0xd40", "1")
    assert found.flags == ("sve", "i8mm", "bf16", "asimddp", "asimd")
    assert found.short.startswith("part-0xd40-8c-1n-sve-")


def test_nothing_known(tmp_path):
    found = taken(trees.no_nodes(tmp_path).root)
    assert found.flags == ()
    assert found.short.startswith("part-unknown-4c-1n-base-")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("AMD EPYC", "amd-epyc"),
        ("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654"),
        ("13th Gen Intel(R) Core(TM) i7-1360P", "13th-gen-intel-core-i7-1360p"),
        ("AMD Ryzen 7 7840U with Radeon 780M Graphics", "amd-ryzen-7-7840u"),
    ],
)
def test_names(tmp_path, name, slug):
    tree = trees.one_cpu(tmp_path).put("proc/cpuinfo", f"processor\t: 0\nmodel name\t: {name}\nflags\t: avx2")
    assert re.fullmatch(rf"{slug}-1c-1n-avx2-[0-9a-f]{{8}}", taken(tree.root).short)


def test_captured_machine(captured: Path):
    found = taken(captured)
    assert (found.cpus, found.cores, found.nodes, found.smt, found.flags) == (16, 8, 4, True, ("avx2",))


def test_this_machine():
    found = Fingerprint.read(Path("/"), Budget.read(), Topology.read())
    assert found.cpus >= found.cores >= 1
    assert found.memory_bytes > 0
    assert found.kernel
