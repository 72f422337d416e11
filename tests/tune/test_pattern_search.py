import pytest

from cpuserve.tune.objective import Objective
from cpuserve.tune.pattern_search import PatternSearch
from cpuserve.tune.search import Search, SearchLimits
from cpuserve.tune.space import Space
from cpuserve.tune.trial import Point
from cpuserve.tune.trial_journal import TrialJournal
from tests.tune.simulated import TWO_SOCKETS, SimulatedMachine

HINTS = {
    "THROUGHPUT": Point.of({"workers": 2, "streams": 16, "use_logical_core": True}),
    "LATENCY": Point.of({"workers": 2, "streams": 1}),
}


@pytest.fixture(scope="module")
def space():
    return Space.of(TWO_SOCKETS)


@pytest.fixture(scope="module")
def quick(space):
    return PatternSearch(space)


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch):
    monkeypatch.setattr("cpuserve.measuring.journal.os.fsync", lambda _descriptor: None)


def searched(tmp_path, machine, quick, limits=None, objective=None):
    search = Search(
        machine, TrialJournal(tmp_path / "t.jsonl", {}), objective or Objective(), limits or SearchLimits()
    )
    search.measure_first(HINTS)
    search.run(quick)
    return search


def test_the_injected_optimum_is_the_best_of_all_points(space):
    machine = SimulatedMachine(space, seed=0)
    assert max(space.points, key=machine.true) == machine.optimum
    assert machine.true(Point()) < 0.9 * machine.true(machine.optimum)


@pytest.mark.parametrize("seed", range(20))
def test_quick_is_within_3_percent_of_the_best_with_a_quarter_of_the_trials(tmp_path, space, quick, seed):
    machine = SimulatedMachine(space, seed)
    search = searched(tmp_path, machine, quick)
    best = search.objective.best(search.journal.trials)
    assert machine.true(best.point) >= 0.97 * machine.true(machine.optimum)
    assert len(search.journal.trials) <= len(space.points) / 4


def test_a_short_search_beats_the_defaults_all_the_same(tmp_path, space, quick):
    machine = SimulatedMachine(space, seed=4)
    search = searched(tmp_path, machine, quick, SearchLimits(trials=40))
    best = search.objective.best(search.journal.trials)
    assert len(search.journal.trials) == 40
    assert machine.true(best.point) > 1.15 * machine.true(Point())


def test_constraints_are_kept(tmp_path, space, quick):
    machine = SimulatedMachine(space, seed=3)
    free = searched(tmp_path, machine, quick)
    latency = free.objective.best(free.journal.trials).trial.figures.p99_ms
    bound = Objective.parse("throughput", [f"p99_ms<={0.7 * latency:.3f}"])
    (tmp_path / "bound").mkdir()
    found = searched(tmp_path / "bound", machine, quick, objective=bound)
    best = bound.best(found.journal.trials)
    assert best.excess == 0
    assert best.trial.figures.p99_ms <= 0.7 * latency
    assert machine.true(best.point) > machine.true(Point())


def test_it_goes_on_where_it_was_killed(tmp_path, space, quick):
    class Dying(SimulatedMachine):
        left = 37

        def __call__(self, point):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().__call__(point)

    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, Dying(space, seed=5), quick)
    kept = list(TrialJournal(tmp_path / "t.jsonl", {}).trials)
    assert len(kept) == 37
    machine = SimulatedMachine(space, seed=5)
    search = searched(tmp_path, machine, quick)
    assert search.journal.trials[:37] == kept
    assert machine.true(search.objective.best(search.journal.trials).point) >= 9700
