"""What workers tell each other: wishes are seen everywhere, waiting ends when all living workers are done."""

import os
import time

import pytest

from cpuserve.errors import RequestError
from cpuserve.serving.reload_control import ReloadControl


def test_a_wish_is_seen_by_other_processes_and_waiting_ends_when_they_are_done():
    control = ReloadControl(rows=3)
    control.join(0)
    ready_r, ready_w = os.pipe()
    child = os.fork()
    if child == 0:
        control.join(1)
        os.write(ready_w, b"x")
        while not control.is_unloaded("m"):
            time.sleep(0.001)
        control.set_applied(1, control.generation)
        time.sleep(30)
        os._exit(0)
    os.read(ready_r, 1)
    generation = control.unload("m")
    control.set_applied(0, generation)
    assert control.wait(generation, 30)
    assert control.load("m") == generation + 1
    assert not control.is_unloaded("m")
    control.set_applied(0, generation + 1)
    assert not control.wait(generation + 1, 0.2)  # the other worker has not done it
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert control.wait(generation + 1, 30)  # and nobody waits for the dead


def test_names_do_not_stand_for_each_other():
    control = ReloadControl(rows=1)
    control.unload("model")
    assert control.is_unloaded("model")
    assert not control.is_unloaded("mode")
    assert not control.is_unloaded("model2")


def test_turns_exclude_other_processes():
    control = ReloadControl(rows=1)
    entered_r, entered_w = os.pipe()
    child = os.fork()
    if child == 0:
        with control.turn:
            os.write(entered_w, b"in")
            time.sleep(0.3)
            os.write(entered_w, b"out")
        os._exit(0)
    assert os.read(entered_r, 2) == b"in"
    with control.turn:
        os.set_blocking(entered_r, False)
        assert os.read(entered_r, 3) == b"out"  # nobody else is in it
    os.waitpid(child, 0)


def test_as_many_models_as_a_large_repository_has_may_be_unloaded_and_then_it_is_refused():
    control = ReloadControl(1)
    names = [f"model-{number}" for number in range(1024)]
    for name in names:
        control.unload(name)
    assert all(map(control.is_unloaded, names))
    with pytest.raises(RequestError, match="1024 models are unloaded already, the limit"):
        control.unload("one-more")
    control.load("model-7")
    assert not control.is_unloaded("model-7")
    control.unload("one-more")  # in the place of it
    assert control.is_unloaded("one-more")
    assert not control.is_unloaded("")
