"""A job on a real Ray cluster of three nodes, one removed and a worker killed (make test-ray)."""

from __future__ import annotations

import pytest

from benchmarks.ray_batch import faulted_and_undisturbed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]


def test_a_lost_node_and_a_killed_worker_change_nothing(tmp_path):
    pytest.importorskip("ray")
    found = faulted_and_undisturbed(tmp_path, pictures=400, videos=2, frames=300)
    assert found["rows"] == found["rows_wanted"] == 1000
    assert found["missing"] == found["twice"] == 0
    assert found["equal_to_the_run_without_faults"]
    assert len(found["faults"]) == 3
