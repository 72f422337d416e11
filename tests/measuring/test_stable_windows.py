"""Three windows in a row that agree, and what is reported of them."""

import pytest

from cpuserve.measuring.load_window import Load, LoadWindow
from cpuserve.measuring.stable_windows import measure_level, spread


def window(answered, latency=10.0, *, due=None, cpu=1.0, statuses=None):
    return LoadWindow(
        requests=answered if due is None else due,
        offered_s=2.0,
        seconds=2.0,
        statuses=statuses or {"200": answered},
        latencies_ms=[latency] * answered,
        client_cpu_s=0.1,
        foreign_cpu_s=0.2,
        wall_s=2.0,
        server_cpu_s=cpu,
        unique_mib=5.0,
    )


def level(windows, load=Load(connections=1), most=10):  # noqa: B008  # frozen
    given, seen = iter(windows), []
    return measure_level(load, lambda _number: next(given), most, seen.append), seen


def test_it_ends_when_three_in_a_row_agree_and_reports_these():
    windows = [window(n) for n in (50, 100, 200, 208, 200, 999)]
    found, seen = level(windows)
    assert found.stable
    assert len(found.windows) == len(seen) == 5
    figures = found.figures()
    assert figures["images_per_s"] == pytest.approx(608 / 6)
    assert figures["offered_per_s"] == pytest.approx(608 / 6)
    assert figures["cpu_ms"] == pytest.approx(3000 / 608)
    assert figures["noise"] == pytest.approx(4 / (304 / 3))
    assert (figures["concurrency"], figures["request_rate"]) == (1, None)


@pytest.mark.parametrize(
    "last", [window(100, latency=13.0), window(130), window(0, due=100, statuses={"503": 100})]
)
def test_latency_throughput_and_refusals_disagree(last):
    found, _ = level([window(100), window(100), last], most=3)
    assert not found.stable


def test_chance_in_the_number_of_arrivals_is_no_disagreement():
    windows = [window(n, due=n) for n in (100, 130, 80)]
    assert level(windows, Load(rate=50.0))[0].stable
    assert not level(windows, most=3)[0].stable


def test_errors_are_counted_by_status_and_cpu_that_nobody_saw_stays_unknown():
    refused = window(90, due=100, cpu=None, statuses={"200": 90, "503": 7, "closed": 3})
    figures = level([refused] * 3)[0].figures()
    assert figures["errors"] == {"503": 21, "closed": 9}
    assert figures["cpu_ms"] is figures["server_cores"] is None


def test_spread():
    assert spread([9, 10, 11]) == pytest.approx(0.2)
    assert spread([0.0, 0.0]) == 0.0
