"""Ranges mean what they mean in perf_analyzer, and the factor form beside."""

import pytest

from cpuserve.errors import UsageError
from cpuserve.measuring.load_ranges import parse_range


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", [4]),
        ("1:4", [1, 2, 3, 4]),
        ("1:8:3", [1, 4, 7]),
        ("1:32:x2", [1, 2, 4, 8, 16, 32]),
        ("3:20:x2", [3, 6, 12]),
    ],
)
def test_whole(text, values):
    assert parse_range(text, "--r", whole=True) == values


def test_fractions():
    assert parse_range("0.5:1.5:0.5", "--r", whole=False) == [0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    "text", ["", "a", "0", "4:1", "1:4:0", "1:4:x1", "1:8:x", "1.5", "1:2:3:4", "1:9999:1", "-1", "1..2"]
)
def test_what_is_no_range_is_refused_by_the_name_of_the_option(text):
    with pytest.raises(UsageError, match=f"^--r {text}"):
        parse_range(text, "--r", whole=True)
