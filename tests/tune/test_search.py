from collections import Counter

import pytest

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.tune.machine_facts import MachineFacts
from cpuserve.tune.objective import Objective
from cpuserve.tune.search import Ended, Search, SearchLimits
from cpuserve.tune.space import Space
from cpuserve.tune.strategies import brute, strategy
from cpuserve.tune.trial import Point
from cpuserve.tune.trial_journal import TrialJournal
from tests.tune.made_trials import figures

HOST = MachineFacts(cores=(2,), cpus=2, threads=2, workers=2, seat_cores=1)
HINTS = {"THROUGHPUT": Point.of({"streams": 1, "workers": 1}), "LATENCY": Point.of({"workers": 1})}


@pytest.fixture(scope="module")
def space():
    return Space.of(HOST)


class Machine:
    """Every point is as good as its number of knobs; some fail."""

    def __init__(self, fails=(), dies_after=10**9):
        self.asked = []
        self.fails, self.dies_after = set(fails), dies_after

    def __call__(self, point):
        if len(self.asked) == self.dies_after:
            raise KeyboardInterrupt
        self.asked.append(point)
        if point in self.fails:
            raise CpuserveError("it cannot be served")
        return figures(100 + 10 * len(point.knobs), noise=0.0)


def search(tmp_path, machine, limits=None, objective=None):
    journal = TrialJournal(tmp_path / "trials.jsonl", {"key": 1})
    return Search(machine, journal, objective or Objective(), limits or SearchLimits())


def reasons(found):
    return [trial.reason for trial in found.journal.trials]


@pytest.mark.parametrize(
    ("text", "seconds"), [("40s", 40), ("20m", 1200), ("1h", 3600), ("1h30m", 5400), ("1m5s", 65)]
)
def test_budgets_are_read(text, seconds):
    assert SearchLimits.parse(None, text) == SearchLimits(None, seconds)


@pytest.mark.parametrize("text", ["", "20", "m", "0s", "-5m", "5 minutes", "1.5h"])
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="1h30m, 20m, 40s"):
        SearchLimits.parse(None, text)


def test_defaults_come_first_and_last_and_the_hints_after_them(tmp_path, space):
    machine = Machine()
    found = search(tmp_path, machine)
    found.measure_first(HINTS)
    found.run(lambda seeker: brute(seeker, space))
    made = reasons(found)
    assert made[:3] == ["default", "hint:THROUGHPUT", "hint:LATENCY"]
    assert made[-1] == "default-again"
    assert set(made[3:-1]) == {"search"}
    assert set(machine.asked) == {*space.points, *HINTS.values()}
    assert [trial.number for trial in found.journal.trials] == list(range(len(made)))


def test_the_best_are_measured_twice(tmp_path, space):
    machine = Machine()
    found = search(tmp_path, machine)
    found.measure_first({})
    found.run(lambda seeker: brute(seeker, space))
    ranked = found.objective.standings(found.journal.trials)
    assert [len(found.journal.of(one.point)) for one in ranked[:3]] == [2, 2, 2]
    assert len(found.journal.of(ranked[5].point)) == 1


def test_no_more_trials_than_allowed_and_the_last_is_the_defaults(tmp_path, space):
    machine = Machine()
    found = search(tmp_path, machine, SearchLimits(trials=20))
    found.measure_first(HINTS)
    found.run(lambda seeker: brute(seeker, space))
    assert len(machine.asked) == 20
    assert reasons(found)[-1] == "default-again"
    assert Counter(machine.asked).most_common(2)[1][1] == 2  # the best, beside the defaults


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_the_least_is_the_defaults(tmp_path, space, trials):
    found = search(tmp_path, Machine(), SearchLimits(trials=trials))
    found.measure_first(HINTS)
    found.run(lambda seeker: brute(seeker, space))
    expected = [["default"], ["default", "default-again"], ["default", "hint:THROUGHPUT", "default-again"]]
    assert reasons(found) == expected[trials - 1]


def test_a_budget_of_time_leaves_room_for_the_last_trial(tmp_path, space, monkeypatch):
    clock = iter(range(0, 10**6, 5))  # a trial takes 5 s
    monkeypatch.setattr("cpuserve.tune.search.time.monotonic", lambda: float(next(clock)))
    found = search(tmp_path, Machine(), SearchLimits(seconds=52.0))
    found.measure_first({})
    assert found.expected_trials == 10
    found.run(lambda seeker: brute(seeker, space))
    assert len(found.journal.trials) == 10
    assert reasons(found)[-1] == "default-again"


def test_a_trial_that_fails_is_kept_with_its_error_and_the_search_goes_on(tmp_path, space):
    broken = sorted(space.points, key=repr)[5:15]
    found = search(tmp_path, Machine(fails=broken))
    found.measure_first({})
    found.run(lambda seeker: brute(seeker, space))
    failed = [trial for trial in found.journal.trials if trial.figures is None]
    assert {trial.point for trial in failed} == set(broken)
    assert {trial.error for trial in failed} == {"it cannot be served"}
    assert len(failed) == len(broken)
    assert found.objective.best(found.journal.trials).point not in broken


def test_without_the_defaults_there_is_no_search_and_the_next_one_tries_again(tmp_path):
    with pytest.raises(CpuserveError, match="the defaults could not be measured: it cannot be served"):
        search(tmp_path, Machine(fails=[Point()])).measure_first({})
    found = search(tmp_path, Machine())
    found.measure_first({})
    assert [trial.error for trial in found.journal.trials] == ["it cannot be served", ""]


@pytest.mark.parametrize("dies_after", [1, 2, 7, 40])
def test_what_was_ended_goes_on_without_a_trial_done_twice(tmp_path, space, dies_after):
    whole = Machine()
    (tmp_path / "whole").mkdir()
    straight = search(tmp_path / "whole", whole)
    straight.measure_first(HINTS)
    straight.run(lambda seeker: brute(seeker, space))

    first, second = Machine(dies_after=dies_after), Machine()
    ended = search(tmp_path, first)
    with pytest.raises(KeyboardInterrupt):
        ended.measure_first(HINTS)
        ended.run(lambda seeker: brute(seeker, space))
    again = search(tmp_path, second)
    again.measure_first(HINTS)
    again.run(lambda seeker: brute(seeker, space))
    assert first.asked + second.asked == whole.asked


def test_a_search_that_is_complete_measures_nothing_more(tmp_path, space):
    for expected in (True, False):
        machine = Machine()
        found = search(tmp_path, machine)
        found.measure_first(HINTS)
        found.run(lambda seeker: brute(seeker, space))
        assert bool(machine.asked) == expected


def test_looking_beyond_the_limit_ends(tmp_path):
    found = search(tmp_path, Machine(), SearchLimits(trials=2))
    found.measure_first({})
    with pytest.raises(Ended):
        found.measure(Point.of({"workers": 1}))
    assert found.measure(Point()).score == 100


@pytest.mark.parametrize(("expected", "mode"), [(None, "quick"), (10, "quick"), (1000, "brute")])
def test_auto_tries_every_point_where_all_fit(tmp_path, space, expected, mode):
    assert strategy("auto", space, expected, tmp_path / "study")[0] == mode
