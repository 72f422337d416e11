"""Ratios of served to in-process work: by turns, round by round, and wrong where nothing was seen."""

import pytest

from cpuserve.bench import ceiling
from cpuserve.bench.ceiling import measure_ceiling
from cpuserve.errors import CpuserveError
from cpuserve.measuring.engine_load import LoopFigures, SeatProcesses
from cpuserve.measuring.load_window import LoadWindow, Target


def served(images, cpu_s, statuses=None):
    latencies = [5.0] * images
    return LoadWindow(images, 2.0, 2.0, statuses or {"200": images}, latencies, 0.1, 0.2, 2.0, cpu_s, 9.0)


class FakeSeats:
    def __init__(self, turns, loops):
        self.turns, self.loops = turns, iter(loops)

    def loop(self, seconds):
        self.turns.append(f"inside {seconds}")
        return next(self.loops)


def test_both_are_measured_by_turns_and_compared_round_by_round(monkeypatch):
    turns = []
    windows = iter(
        [served(1, 1.0), served(800, 2.4), served(900, 2.7), served(400, 2.0, {"200": 400, "503": 2})]
    )

    def measure(target, files, load, *, seconds):
        turns.append(f"served {seconds} {load.connections}")
        return next(windows)

    monkeypatch.setattr(ceiling, "measure_window", measure)
    loops = [
        LoopFigures(1, 1.0, 1.0),
        LoopFigures(1000, 2.0, 2.5),
        LoopFigures(1000, 2.0, 2.5),
        LoopFigures(500, 2.0, 2.0),
    ]
    found = measure_ceiling(
        Target("h", 1, "/p"), FakeSeats(turns, loops), [], connections=4, rounds=3, seconds=2.0
    )
    assert turns[2:] == [
        "inside 2.0",
        "served 2.0 4",
        "served 2.0 4",
        "inside 2.0",
        "inside 2.0",
        "served 2.0 4",
    ]
    figures = found.figures()
    assert figures["cpu_ratio"]["median"] == pytest.approx(1.2)
    assert figures["cpu_ratio"]["most"] == pytest.approx(1.25)
    assert figures["images_per_s_ratio"]["least"] == pytest.approx(0.8)
    assert figures["in_process"]["images_per_s"]["median"] == pytest.approx(500)
    assert figures["served"]["cpu_ms"]["median"] == pytest.approx(3.0)
    assert figures["served"]["errors"] == found.errors == {"503": 2}


def test_a_server_whose_cpu_cannot_be_seen_has_no_ratio():
    one = ceiling.Round(LoopFigures(1000, 2.0, 2.5), served(10, None))
    with pytest.raises(CpuserveError, match="could not be seen"):
        _ = one.cpu


def test_a_seat_that_does_not_load_says_why(digits_pictures, capfd, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    with (
        pytest.raises(CpuserveError, match="stderr says why"),
        SeatProcesses("digits", {"workers": 1}, None, [bad]),
    ):
        pass
    assert "cpuserve: error: " in capfd.readouterr().err


def test_every_seat_works(digits_pictures):
    with SeatProcesses("digits", {"workers": 1, "threads": 2}, None, digits_pictures) as seats:
        assert len(seats.seats) == 1
        found = seats.loop(0.3)
    assert found.images == len(found.latencies_ms) > 0
    assert found.seconds >= 0.25
    assert found.cpu_ms > 0


def test_several_models_take_turns_and_say_what_is_in_force(digits_pictures, tmp_path):
    log = tmp_path / "log"
    flags = {"workers": 1, "threads": 2, "streams": 1}
    with SeatProcesses(["digits", "digits"], flags, None, digits_pictures, log=log) as seats:
        found = seats.loop(0.2)
        assert seats.properties["digits"]["NUM_STREAMS"] == "1"
        assert len(seats.pids) == 1
    assert len(found.latencies_ms) == found.images
    assert list(found.latencies_ms) == sorted(found.latencies_ms)


def test_a_log_keeps_why_a_seat_does_not_load(digits_pictures, tmp_path):
    log = tmp_path / "log"
    with (
        pytest.raises(CpuserveError, match="no model 'none' in"),
        SeatProcesses("none", {"workers": 1}, None, digits_pictures, log=log),
    ):
        pass


@pytest.fixture
def digits_pictures(monkeypatch):
    from tests.conftest import ROOT

    monkeypatch.chdir(ROOT)
    return [ROOT / "docs" / "seven.png"]
