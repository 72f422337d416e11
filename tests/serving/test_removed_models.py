"""A model whose files were removed is served for a while; a repository that cannot be read removes none."""

import logging
from types import SimpleNamespace

import pytest

from cpuserve.serving.removed_models import RemovedModels


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def removed(now):
    return RemovedModels(30, lambda: now[0])


def repository(wanted=True, absence=""):
    return SimpleNamespace(wants=lambda name: wanted, absence=lambda name: absence)


def test_a_removed_model_is_dropped_when_its_time_is_over(removed, now, caplog):
    assert removed.look(repository(), ["a", "b"], ["b"], "") == ([], [])
    assert "model a was removed: it is served for 30 s more" in caplog.text
    now[0] = 29.0
    assert not removed.due
    assert removed.look(repository(), ["a", "b"], ["b"], "") == ([], [])
    now[0] = 30.0
    assert removed.due
    assert removed.look(repository(), ["a", "b"], ["b"], "") == (["a"], [])
    removed.forget("a")
    assert not removed.due
    assert [record.levelno for record in caplog.records] == [logging.WARNING]  # said once


def test_one_that_comes_back_has_all_its_time_again(removed, now):
    removed.look(repository(), ["a"], [], "")
    now[0] = 29.0
    removed.look(repository(), ["a"], ["a"], "")
    removed.look(repository(), ["a"], [], "")
    now[0] = 58.0
    assert removed.look(repository(), ["a"], [], "") == ([], [])
    now[0] = 59.0
    assert removed.look(repository(), ["a"], [], "") == (["a"], [])


def test_nothing_is_removed_while_the_repository_cannot_be_read(removed, now):
    removed.look(repository(), ["a"], [], "")
    now[0] = 100.0
    assert removed.look(repository(), ["a", "b"], [], "I/O error") == ([], ["I/O error"])
    assert removed.look(repository(absence="gone"), ["a", "b"], [], "") == ([], ["gone"])
    assert not removed.due  # its time begins again


def test_a_model_that_is_no_longer_wanted_is_dropped_at_once(removed):
    assert removed.look(repository(wanted=False), ["a"], [], "I/O error") == (["a"], [])
