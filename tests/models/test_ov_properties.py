"""plugin_config: what is passed on to OpenVINO, and what the seat decides."""

import pytest

from cpuserve.errors import UsageError
from cpuserve.models.ov_properties import properties_of


def test_properties_are_passed_on_without_those_of_the_seat():
    text = '{"PERF_COUNT": true, "NUM_STREAMS": 4, "AFFINITY": "CORE", "KV_CACHE_PRECISION": "u8"}'
    assert properties_of(text) == (
        {"PERF_COUNT": True, "KV_CACHE_PRECISION": "u8"},
        ["AFFINITY", "NUM_STREAMS"],
    )
    assert properties_of("") == ({}, [])


@pytest.mark.parametrize("text", ["PERF_COUNT=1", "[1]", '{"A": null}', '{"A": [1]}'])
def test_anything_else_is_refused_with_its_text(text):
    with pytest.raises(UsageError, match="is not a JSON object of texts, numbers, true and false"):
        properties_of(text)
