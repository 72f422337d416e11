"""What `cpuserve cluster` refuses before it asks Ray for anything."""

from __future__ import annotations

import sys

import pytest

from cpuserve.cli import main
from tests.servers import free_port


def ends(*words):
    with pytest.raises(SystemExit) as end:
        main(["cluster", *words])
    return end.value.code


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_without_ray_the_extra_is_named(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert ends(command) == 4
    assert "cpuserve[ray]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "--host", "10.0.0.1"), "--host is chosen for each server"),
        (("up", "digits", "--port=8000"), "--port=8000 is chosen for each server"),
        (("up", "--prezision", "f32"), "No such option"),
    ],
)
def test_words_that_no_server_takes_are_refused_at_once(words, said, capsys):
    assert ends(*words) == 2
    assert said in capsys.readouterr().err


def test_an_address_without_a_cluster_is_said_at_once(capsys):
    pytest.importorskip("ray")
    assert ends("status", "--ray", f"127.0.0.1:{free_port()}") == 1
    assert "`ray start --head` starts one" in capsys.readouterr().err
    assert ends("status", "--ray", "nonsense") == 2
    assert "is no address" in capsys.readouterr().err
