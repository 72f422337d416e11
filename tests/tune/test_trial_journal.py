import json

import pytest

from cpuserve.errors import UsageError
from cpuserve.tune.trial import Point
from cpuserve.tune.trial_journal import TrialJournal, read_trials
from tests.tune.made_trials import figures, trials

KEY = {"fingerprint": "cpu-8c", "objective": "throughput", "constraints": []}
TRIALS = trials(
    ({}, figures(), "default"), ({"workers": 2, "env.OMP_NUM_THREADS": 1}, figures(facts={"openmp": []}))
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cpu-8c" / "m.trials.jsonl"


def written(file, *made):
    journal = TrialJournal(file, KEY)
    journal.describe({"points": 3})
    for trial in made:
        journal.append(trial)
    return journal


def test_trials_come_back_as_they_were(file):
    written(file, *TRIALS, *trials(({"a": True}, "it failed")))
    again = TrialJournal(file, KEY)
    assert again.trials[:2] == TRIALS
    assert (again.trials[2].figures, again.trials[2].error) == (None, "it failed")
    assert again.of(Point()) == TRIALS[:1]
    assert again.seconds == 15.0
    assert "going on after 3 trials" in again.notes[0]
    assert read_trials(file).space == {"points": 3}


def test_the_space_is_described_once(file):
    written(file)
    before = file.read_bytes()
    TrialJournal(file, KEY).describe({"points": 3})
    assert file.read_bytes() == before


def test_a_torn_last_line_is_dropped_with_a_word(file):
    written(file, *TRIALS)
    file.write_bytes(file.read_bytes()[:-30])
    again = TrialJournal(file, KEY)
    assert again.trials == TRIALS[:1]
    assert "torn" in again.notes[0]
    again.append(TRIALS[1])
    assert TrialJournal(file, KEY).trials == TRIALS


def test_the_first_line_may_be_torn_too(file):
    file.parent.mkdir()
    file.write_text('{"key": {"finger')
    journal = TrialJournal(file, KEY)
    journal.append(TRIALS[0])
    assert TrialJournal(file, KEY).trials == TRIALS[:1]


def test_the_file_of_another_search_is_kept_under_another_name(file):
    written(file, *TRIALS)
    for number, objective in enumerate(("latency", "cpu_per_request"), start=1):
        journal = TrialJournal(file, KEY | {"objective": objective})
        assert journal.trials == []
        assert "of another search (objective)" in journal.notes[0]
        assert f"m.trials.jsonl.{number}" in journal.notes[0]
    assert list(read_trials(file.with_name("m.trials.jsonl.1")).trials) == TRIALS


@pytest.mark.parametrize(
    "text",
    ["[1]\n", '{"a": 1}\n', '{"key": {}}\n{"trial": {"number": 1}}\n', '{"key": {}}\n{"other": 1}\n'],
)
def test_what_is_no_journal_is_refused_by_name(file, text):
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(UsageError, match=r"m\.trials\.jsonl is no journal of trials"):
        TrialJournal(file, KEY)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--tuning-dir"):
        TrialJournal(tmp_path / "file" / "x.jsonl", KEY)


def test_every_line_is_a_whole_object(file):
    written(file, *TRIALS)
    kinds = [list(json.loads(line)) for line in file.read_text().splitlines()]
    assert kinds == [["key"], ["space"], ["trial"], ["trial"]]
