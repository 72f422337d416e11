"""Windows that other programs disturb are measured again, so many times at most."""

import pytest

from cpuserve.measuring.load_window import LoadWindow
from cpuserve.measuring.noise import QuietWindows, foreign_cores


def window(foreign_cores):
    return LoadWindow(1, 2.0, 2.0, {"200": 1}, [1.0], 0.1, 2.0 * foreign_cores, 2.0, 0.4, 1.0)


@pytest.mark.parametrize(
    ("cores", "counted", "repeated", "spoiled"),
    [
        ([0.1, 0.2], [0.1, 0.2], 0, 0),
        ([0.9, 0.1, 0.25], [0.1, 0.25], 1, 0),
        ([0.9, 0.8, 0.7, 0.6], [0.7, 0.6], 2, 2),
        ([0.9, 0.1, 0.8, 0.7], [0.1, 0.7], 2, 1),
    ],
)
def test_a_disturbed_window_is_repeated_until_no_more_may_be(cores, counted, repeated, spoiled):
    given, told = iter(cores), []
    quiet = QuietWindows(
        lambda _number: window(next(given)),
        limit=0.25,
        most=2,
        on_window=lambda one, counts: told.append((foreign_cores(one), counts)),
    )
    assert [foreign_cores(quiet(number)) for number in range(2)] == pytest.approx(counted)
    assert (quiet.repeated, quiet.spoiled) == (repeated, spoiled)
    assert [one for one, _ in told] == pytest.approx(cores)
    assert [counts for _, counts in told].count(False) == repeated
