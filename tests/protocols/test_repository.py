"""The repository's routes: index, load, unload, reload, and what they refuse."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cpuserve.errors import RepositoryError, UnknownModel, UsageError
from cpuserve.protocols.repository import RepositoryRoutes
from cpuserve.serving.model_table import ModelReport
from tests.protocols.fakes import Pool as Models
from tests.protocols.fakes import ask


class Repository:
    """Has ``m`` and ``away``, below /srv."""

    failure = None

    def names(self):
        if self.failure:
            raise self.failure
        return ["away", "m"]

    def versions(self, _name):
        return {4: None, 5: None}

    def find(self, name):
        name = {"short": "m"}.get(name, name)
        if name not in self.names():
            raise UnknownModel(f"/srv/{name} is no model")
        return SimpleNamespace(name=name)

    def public(self, text):
        return text.replace("/srv/", "")


class Control:
    """Notes what it is told to do; ``away`` is unloaded."""

    done = True

    def __init__(self):
        self.told, self.asked = [], []
        self.table = SimpleNamespace(read=lambda: self.told)

    def is_unloaded(self, name):
        return name == "away"

    def wait(self, generation, _timeout_s):
        return self.done and generation == len(self.asked)

    def _ask(self, *what):
        self.asked.append(what)
        return len(self.asked)

    def load(self, name, rollout):
        return self._ask("load", name, rollout)

    def unload(self, name):
        return self._ask("unload", name)

    def rescan(self):
        return self._ask("rescan")


class Pool(Models):
    def __init__(self):
        super().__init__()
        self.repository, self.control, self.config_error = Repository(), Control(), None

    def repository_now(self):
        if self.config_error:
            raise self.config_error
        return self.repository


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture
def routes(pool):
    return RepositoryRoutes(pool)


def test_the_index_lists_what_is_served_and_what_is_unloaded(routes, pool):
    rows = ask(routes.index)[2]
    assert [(row["name"], row["version"], row["state"]) for row in rows] == [
        ("away", "5", "UNAVAILABLE"),
        ("late", "1", "LOADING"),
        ("m", "2", "READY"),
        ("m", "3", "UNAVAILABLE"),
    ]
    assert rows[0]["reason"] == "unloaded"
    assert [row["version"] for row in ask(routes.index, body={"ready": True})[2]] == ["2"]
    pool.repository.failure = RepositoryError("cannot be read")
    assert [row["name"] for row in ask(routes.index)[2]] == ["late", "m", "m"]


def test_load_and_unload_wait_for_every_worker(routes, pool):
    assert ask(routes.load, "m")[0] == 200
    assert ask(routes.unload, "m")[0] == 200
    assert pool.control.asked == [("load", "m", ""), ("unload", "m")]
    pool.control.done = False
    status, headers, found = ask(routes.load, "m")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "not every worker" in found["error"]


def test_an_alias_loads_and_unloads_the_model_that_has_it(routes, pool):
    assert ask(routes.load, "short")[0] == ask(routes.unload, "short")[0] == 200
    assert pool.control.asked == [("load", "m", ""), ("unload", "m")]


def test_a_load_brings_labels_and_candidates(routes, pool):
    text = '{"canary": {"label": "old", "share": 0.5}}'
    assert ask(routes.load, "m", body={"parameters": {"config": text}})[0] == 200
    assert pool.control.asked == [("load", "m", text)]


def test_a_model_that_cannot_be_loaded_says_why_and_what_is_served(routes, pool):
    pool.control.told = [
        ModelReport("m", 3, "UNAVAILABLE", "no layer Foo"),
        ModelReport("late", 1, "LOADING", "other"),
    ]
    status, _, found = ask(routes.load, "m")
    assert status == 503
    assert found["error"] == "failed to load 'm': version 3: no layer Foo (served: version 2)"


@pytest.mark.parametrize(
    ("route", "model", "body", "status", "words"),
    [
        ("load", "none", b"", 404, "failed to load 'none': none is no model"),
        ("load", "m", {"parameters": {"file:1/model.onnx": "x"}}, 400, 'takes no parameters but "config"'),
        ("load", "new", {"parameters": {"file:1/model.onnx": "x"}}, 400, 'takes no parameters but "config"'),
        ("load", "m", {"parameters": {"config": 1}}, 400, "JSON in a text"),
        ("load", "m", {"parameters": {"config": "{"}}, 400, "config is no JSON"),
        ("load", "m", {"parameters": {"config": "[]"}}, 400, "no JSON object"),
        (
            "load",
            "m",
            {"parameters": {"config": '{"max_batch_size": 1}'}},
            400,
            "unknown key 'max_batch_size'",
        ),
        (
            *("load", "m", {"parameters": {"config": '{"canary": {"version": 2, "share": 7}}'}}, 400),
            "the share of canary is a number from 0 to 1, not 7",
        ),
        ("load", "m", {"parameters": 1}, 400, "takes no parameters"),
        ("load", "m", b"[]", 400, "JSON object"),
        ("unload", "none", b"", 404, "no model 'none'"),
        ("index", None, b"{", 400, "not JSON"),
    ],
)
def test_what_is_refused_changes_nothing(routes, pool, route, model, body, status, words):
    found = ask(getattr(routes, route), *([model] if model else []), body=body)
    assert found[0] == status
    assert words in found[2]["error"]
    assert "/srv" not in found[2]["error"]
    assert not pool.control.asked


def test_a_repository_that_cannot_be_read_is_503_for_load(routes, pool):
    pool.repository.failure = RepositoryError("/srv/m: denied")
    assert ask(routes.load, "m")[2] == {"error": "failed to load 'm': m: denied"}
    assert ask(routes.load, "m")[0] == 503


def test_an_unloaded_model_may_be_unloaded_again(routes):
    assert ask(routes.unload, "away")[0] == 200


def test_reload_says_whether_something_changed(routes, pool, monkeypatch):
    status, _, found = ask(routes.reload)
    assert (status, sorted(found)) == (200, ["late", "m"])
    monkeypatch.setattr(pool.control, "rescan", lambda: pool.models.pop("late") and pool.control._ask("x"))
    status, _, found = ask(routes.reload)
    assert (status, sorted(found)) == (201, ["m"])


def test_a_wrong_config_changes_nothing(routes, pool):
    pool.config_error = UsageError("/srv/config.json is not JSON")
    assert ask(routes.reload)[2] == {"error": "config.json is not JSON"}
    status, _, found = ask(routes.load, "m")
    assert (status, found["error"]) == (400, "failed to load 'm': config.json is not JSON")
    assert not pool.control.asked
