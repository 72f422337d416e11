"""What the page on archives says of Ray is what was measured."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("found_in", "shown"),
    [
        ("cpuserve_batch", "| `cpuserve batch --ray`, pictures and videos |"),
        ("ray_data_checkpoint", "| Ray Data with `CheckpointConfig`, the pictures |"),
    ],
)
def test_the_table_has_the_figures_of_the_result(found_in, shown):
    found = json.loads((ROOT / "docs" / "results" / "ray-batch.json").read_text())[found_in]
    line = next(
        line for line in (ROOT / "docs" / "batch.md").read_text().splitlines() if line.startswith(shown)
    )
    seconds = found.get("seconds_with_faults_on_ray", found.get("seconds_with_faults"))
    figures = [found[key] for key in ("rows", "missing", "twice")]
    figures += [seconds, found["rows_kept_over_the_kill_of_the_job"]]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [*map(str, figures)]
    assert len(found["faults"]) == 3
    assert found["rows"] == found["rows_wanted"]
    assert found["equal_to_the_run_without_faults"]
