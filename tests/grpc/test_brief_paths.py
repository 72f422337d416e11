"""Requests that decode and infer for a short time are run by the thread that has read them."""

from __future__ import annotations

import threading

import pytest

from cpuserve.grpc.brief_paths import BriefPaths
from tests.grpc.running import ask, serving_grpc
from tests.grpc.test_server import tensors
from tests.protocols.fakes import Pipeline, Pool


def test_what_is_not_known_is_not_brief():
    paths = BriefPaths()
    assert "/a" not in paths
    paths.learn("/a", 1e-5)
    assert "/a" in paths


def test_what_took_longer_in_the_way_of_others_is_brief_still():
    paths = BriefPaths()
    for number in range(100):
        paths.learn("/a", 1e-4 if number % 5 == 0 else 8e-4)
    assert "/a" in paths
    for _ in range(200):
        paths.learn("/a", 8e-4)
    assert "/a" not in paths


def test_after_a_long_one_a_path_is_not_brief_for_a_while():
    paths = BriefPaths()
    paths.learn("/a", 1e-4)
    paths.learn("/a", 1e-1)
    for _ in range(20):
        assert "/a" not in paths
        paths.learn("/a", 1e-4)
    for _ in range(20):
        paths.learn("/a", 1e-4)
    assert "/a" in paths


def test_no_more_paths_are_known_than_there_is_room_for():
    paths = BriefPaths()
    for number in range(10_000):
        paths.learn(f"/{number}", 1e-5)
    assert "/255" in paths
    assert "/9999" not in paths
    assert len(paths._expected_s) == 256


@pytest.mark.parametrize(("seconds", "thread"), [(1e-5, "grpc"), (1e-2, "serve-0")])
def test_who_runs_a_request(monkeypatch, seconds, thread):
    ran = []
    whole = Pipeline.infer

    def infer(self, found, request):
        ran.append(threading.current_thread().name)
        answer = whole(self, found, request)
        request.stages_ns["infer"] = int(1e9 * seconds)
        return answer

    monkeypatch.setattr(Pipeline, "infer", infer)
    with serving_grpc(Pool()) as one:
        for _ in range(5):
            assert ask(one.address, "ModelInfer", tensors().SerializeToString())
    assert ran[0] == "serve-0"  # nothing is known of it yet
    assert thread in ran[1:]
    assert set(ran[1:]) <= {thread, "serve-0"}
