"""Labels and canaries of a worker's models: who answers what, and what happens when a version cannot."""

from __future__ import annotations

import json
import random
from collections import Counter
from types import SimpleNamespace

import pytest

from cpuserve.errors import ModelNotReady, UnknownModel
from cpuserve.serving.asked_rollouts import AskedRollouts
from cpuserve.serving.pool import Pool
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.statistics import Statistics
from cpuserve.serving.version_loader import ModelState
from cpuserve.settings import Settings


class Loader:
    """Loads nothing: a version answers unless its weights are empty."""

    stuck = False

    def load(self, file, signature, _settings, _public, *, beside_traffic):
        del beside_traffic
        if file.xml.with_suffix(".bin").stat().st_size:
            pipeline = SimpleNamespace(name=file.name, version=file.version)
            return ModelState(file, signature, "READY", "", pipeline)
        return ModelState(file, signature, "UNAVAILABLE", "the weights are empty")


def version(home, number, weights=b"x"):
    folder = home / str(number)
    folder.mkdir(parents=True)
    (folder / "model.xml").write_text("<net/>")
    (folder / "model.bin").write_bytes(weights)


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "models" / "digits"
    version(folder, 1)
    version(folder, 2)
    return folder


@pytest.fixture
def made(home):
    def make(**settings):
        control = ReloadControl(rows=1)
        control.join(0)
        pool = Pool(Settings(model_repository=home.parent, **settings), 1, Statistics(rows=1), control, 0)
        pool._loader = Loader()
        pool.sync()
        return pool

    return make


def rollout(home, pool, **keys):
    (home / "rollout.json").write_text(json.dumps(keys))
    pool.sync()


def answers(pool, count=400, headers=None):
    return Counter(pool.pick("digits", None, headers or {}).version for _ in range(count))


def test_labelled_versions_are_served_and_change_nothing_for_requests_without_a_version(made, home):
    pool = made()
    assert pool.ready_versions("digits") == [2]
    rollout(home, pool, version_labels={"stable": 1, "next": 2})
    assert pool.ready_versions("digits") == [1, 2]
    assert pool.get("digits", "stable").version == pool.pick("digits", "stable", {}).version == 1
    assert pool.labelled("digits", "next") == "2"
    assert answers(pool, 5) == {2: 5}  # TensorFlow Serving's rule: the newest
    with pytest.raises(UnknownModel, match=r"no label 'best'; the labels are: next \(version 2\), stable"):
        pool.labelled("digits", "best")
    with pytest.raises(UnknownModel, match="string 'best': the versions served are: 1, 2; the labels"):
        pool.get("digits", "best")
    (home / "rollout.json").unlink()
    pool.sync()
    assert pool.ready_versions("digits") == [2]
    with pytest.raises(UnknownModel, match="it has no labels"):
        pool.labelled("digits", "stable")


def test_a_label_moves_when_its_new_version_is_ready(made, home):
    pool = made(version_labels='{"stable": 1}')
    version(home, 3, b"")
    rollout(home, pool, version_labels={"stable": 3})
    assert pool.get("digits", "stable").version == 1
    assert "label stable: version 3 is not ready" in pool.problems["digits"]
    assert "it stays with version 1" in pool.problems["digits"]
    rollout(home, pool, version_labels={"stable": 9})
    assert pool.get("digits", "stable").version == 1
    assert "label stable: version 9 is not in the repository" in pool.problems["digits"]
    rollout(home, pool, version_labels={"stable": 2})
    assert pool.get("digits", "stable").version == 2
    assert "digits" not in pool.problems
    assert pool.ready_versions("digits") == [2]


def test_a_label_that_never_had_a_version_is_refused(made, home):
    version(home, 3, b"")
    pool = made(version_labels='{"next": 3, "far": 9}')
    with pytest.raises(ModelNotReady, match="not ready"):
        pool.get("digits", "next")
    with pytest.raises(UnknownModel, match=r"string 'far': .*far \(version 9\)"):
        pool.get("digits", "far")
    assert answers(pool, 3) == {2: 3}


def test_a_canary_answers_its_share_and_never_what_names_a_version(made, home):
    random.seed(1)
    pool = made()
    rollout(home, pool, canary={"version": 2, "share": 0.25})
    assert pool.ready_versions("digits") == [1, 2]
    found = answers(pool, 2000)
    assert set(found) == {1, 2}
    assert 400 < found[2] < 600
    assert {pool.pick("digits", "1", {}).version for _ in range(50)} == {1}
    assert {pool.get("digits").version for _ in range(50)} == {1}  # what metadata are asked of
    assert {pool.pick("digits", "0", {}).version for _ in range(200)} == {1, 2}
    rollout(home, pool, canary={"version": 2, "share": 0})
    assert answers(pool) == {1: 400}
    rollout(home, pool, canary={"version": 2, "share": 1})
    assert answers(pool) == {2: 400}
    rollout(home, pool)
    assert answers(pool) == {2: 400}
    assert pool.ready_versions("digits") == [2]


def test_with_a_canary_the_label_stable_answers_the_rest(made, home):
    version(home, 3)
    pool = made(canary='{"version": 2, "share": 0}')
    assert answers(pool, 5) == {3: 5}
    rollout(home, pool, version_labels={"stable": 1, "new": 2}, canary={"label": "new", "share": 0})
    assert answers(pool, 5) == {1: 5}


def test_equal_values_of_the_header_get_the_same_version_also_when_the_share_grows(made, home):
    pool = made()

    def chosen(share):
        rollout(home, pool, canary={"version": 2, "share": share, "header": "X-User"})
        users = {f"user {number}": None for number in range(300)}
        for user in users:
            (users[user],) = answers(pool, 3, {"x-user": user})
        return {user for user, version in users.items() if version == 2}

    few, more = chosen(0.2), chosen(0.5)
    assert 30 < len(few) < 90
    assert 110 < len(more) < 190
    assert few < more
    assert set(answers(pool, 200)) == {1, 2}  # without the header each alone


@pytest.mark.parametrize("missing", [True, False])
def test_without_its_version_the_stable_one_answers_all_and_it_is_said(made, home, missing):
    if not missing:
        version(home, 3, b"")
    pool = made()
    rollout(home, pool, canary={"version": 3, "share": 0.5})
    assert answers(pool, 100) == {2: 100}
    words = "is not in the repository" if missing else "is not ready: "
    assert f"canary: version 3 {words}" in pool.problems["digits"]
    assert "version 2 answers all" in pool.problems["digits"]
    assert pool.rollouts.choices["digits"].canary_share == 0
    assert pool.ready


def test_a_rollout_that_is_wrong_changes_nothing(made, home):
    pool = made()
    rollout(home, pool, canary={"version": 1, "share": 1})
    (home / "rollout.json").write_text("{")
    pool.sync()
    assert answers(pool, 5) == {1: 5}
    assert "the rollout stays as it was: digits/rollout.json is not JSON" in pool.problems["digits"]
    rollout(home, pool, canary={"version": 1, "share": 0})
    assert "digits" not in pool.problems


def test_a_canary_alone_is_better_than_no_answer(made, home):
    pool = made(canary='{"version": 2, "share": 0}', model_version_policy="specific:2")
    assert answers(pool, 5) == {2: 5}


def test_a_load_brings_a_rollout_until_the_next(made, home):
    pool = made(version_labels='{"stable": 1}')
    pool.control.load("digits", '{"canary": {"version": 2, "share": 1}}')
    pool.sync()
    assert answers(pool, 5) == {2: 5}
    assert pool.rollouts.texts("digits") == {
        "version_labels": '{"stable": 1}',
        "canary": '{"version": 2, "share": 1.0}',
    }
    pool.control.load("digits")
    pool.sync()
    assert pool.rollouts.choices["digits"].canary is None


def test_rollouts_of_loads_are_kept_by_name():
    asked = AskedRollouts()
    asked.put("a", "x")
    asked.put("b", "y")
    asked.put("a", "z")
    assert (asked.get("a"), asked.get("b"), asked.get("c")) == ("z", "y", "")
    asked.put("a", "")
    assert asked.get("a") == ""


def test_a_canary_ends_before_anything_is_loaded(made, home):
    pool = made(canary='{"version": 2, "share": 1}')
    version(home.parent / "another", 1)
    seen = []

    class Slow(Loader):
        def load(self, file, *words, **more):
            seen.append((file.name, answers(pool, 5)))
            return super().load(file, *words, **more)

    pool._loader = Slow()
    assert answers(pool, 5) == {2: 5}
    rollout(home, pool, canary={"version": 2, "share": 0})
    assert seen == [("another", {1: 5})]
