"""Two emulated machines, each booted once, and the file that keeps what was seen on them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from tests.numa.guest import Machine, Node, Run, run
from tests.numa.kernel import Kit, Unavailable, prepare

TWO_NODES = Machine((Node(2, 1024),) * 2, ((10, 20), (20, 10)))
# the last node with CPUs has no memory and is nearest to the third; the fifth has memory alone, far from all
FOUR_NODES = Machine(
    (*(Node(1, 768),) * 3, Node(1, 0), Node(0, 768)),
    (
        (10, 20, 30, 40, 50),
        (20, 10, 20, 30, 50),
        (30, 20, 10, 20, 50),
        (40, 30, 20, 10, 50),
        (50, 50, 50, 50, 10),
    ),
)

_RUNS = pytest.StashKey[dict[str, tuple[Kit, Machine, Run]]]()
_CHECKS = pytest.StashKey[list[dict[str, Any]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RUNS], config.stash[_CHECKS] = {}, []


@pytest.fixture(scope="session")
def kit() -> Kit:
    """What it takes to boot; skips with a reason where it cannot be had, fails in CI."""
    try:
        return prepare()
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def two_nodes(kit: Kit, pytestconfig: pytest.Config) -> Run:
    """Two nodes of two CPUs."""
    done = run(kit, TWO_NODES, "topology", "life", "refused", "quota")
    pytestconfig.stash[_RUNS]["two nodes"] = (kit, TWO_NODES, done)
    return done


@pytest.fixture(scope="session")
def four_nodes(kit: Kit, pytestconfig: pytest.Config) -> Run:
    """Four nodes with a CPU each, the last without memory, and a node with memory alone."""
    done = run(kit, FOUR_NODES, "topology", "nodes")
    pytestconfig.stash[_RUNS]["four nodes"] = (kit, FOUR_NODES, done)
    return done


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what a check saw; show what the guest said when it fails."""
    report = yield
    if report.when == "call":
        text = re.sub(r"\s+", " ", item.function.__doc__ or item.name)
        check = {"check": text, "passed": report.passed, "seen": dict(item.user_properties).get("seen")}
        item.config.stash[_CHECKS].append(check)
        if report.failed:
            runs = item.config.stash[_RUNS]
            report.sections += [(f"guest {name}", done.output) for name, (_, _, done) in runs.items()]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the result file, when one is asked for and the whole lab has run."""
    file, runs = os.environ.get("CPUSERVE_NUMA_RESULT"), session.config.stash[_RUNS]
    if not file or len(runs) < 2:
        return
    kit = next(iter(runs.values()))[0]
    version = subprocess.run([kit.emulator, "--version"], capture_output=True, text=True, check=True).stdout
    result = {
        "command": "make test-numa",
        "date": datetime.now(UTC).date().isoformat(),
        "host": Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short,
        "emulator": version.splitlines()[0],
        "kernel": kit.release,
        "guests": {
            name: {
                "nodes": [f"CPUs: {node.cpus}, MiB: {node.mebibytes}" for node in machine.nodes],
                "distances": [" ".join(map(str, row)) for row in machine.distances],
                "seconds": round(done.seconds),
            }
            for name, (_, machine, done) in runs.items()
        },
        "checks": session.config.stash[_CHECKS],
    }
    Path(file).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
