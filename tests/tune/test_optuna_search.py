import sys

import optuna
import pytest

from cpuserve.errors import MissingExtra
from cpuserve.tune.machine_facts import MachineFacts
from cpuserve.tune.objective import Objective
from cpuserve.tune.optuna_search import OptunaSearch
from cpuserve.tune.search import Search, SearchLimits
from cpuserve.tune.space import Space
from cpuserve.tune.strategies import strategy
from cpuserve.tune.trial_journal import TrialJournal
from tests.tune.simulated import SimulatedMachine

HOST = MachineFacts(cores=(2,), cpus=2, threads=2, workers=2, seat_cores=1)


@pytest.fixture(scope="module")
def space():
    return Space.of(HOST)


def searched(tmp_path, machine, space, trials, objective):
    search = Search(machine, TrialJournal(tmp_path / "t.jsonl", {}), objective, SearchLimits(trials))
    search.measure_first({})
    search.run(OptunaSearch(space, tmp_path / "study.jsonl"))
    return search


def test_optuna_searches_and_goes_on_from_its_journal(tmp_path, space):
    machine = SimulatedMachine(space, seed=1)
    objective = Objective.parse("throughput", ["p99_ms<=100000"])
    first = searched(tmp_path, machine, space, 12, objective)
    assert len(first.journal.trials) == 12
    assert (tmp_path / "study.jsonl").stat().st_size > 0
    kept = list(first.journal.trials)
    second = searched(tmp_path, machine, space, 24, objective)
    assert second.journal.trials[:12] == kept
    points = [trial.point for trial in second.journal.trials if trial.reason == "search"]
    assert len(set(points)) >= 12
    assert set(points) <= set(space.points)


def test_what_optuna_was_asking_when_it_was_killed_is_given_up(tmp_path, space):
    class Dying(SimulatedMachine):
        left = 5

        def __call__(self, point):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().__call__(point)

    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, Dying(space, seed=1), space, 12, Objective())
    search = searched(tmp_path, SimulatedMachine(space, seed=1), space, 12, Objective())
    assert len(search.journal.trials) == 12
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.jsonl"))
    )
    states = [trial.state.name for trial in storage.get_all_trials(0)]
    assert states.count("FAIL") == 1
    assert states.count("RUNNING") == 1  # what was being asked when the limit was reached


def test_without_optuna_the_extra_is_named(tmp_path, space, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"--mode quick needs nothing.*pip install 'cpuserve\[tune\]'"):
        strategy("optuna", space, None, tmp_path / "study")
