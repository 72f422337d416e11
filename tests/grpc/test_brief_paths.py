"""Paths whose requests take the processor for a short time are known."""

from __future__ import annotations

import math

from cpuserve.grpc.brief_paths import BriefPaths


def test_what_is_not_known_is_not_brief():
    paths = BriefPaths()
    assert paths.expected_s("/a") == math.inf
    paths.learn("/a", 1e-5)
    assert paths.expected_s("/a") == 1e-5


def test_a_path_with_some_that_are_long_is_not_brief():
    paths = BriefPaths()
    for number in range(100):
        paths.learn("/a", 1e-4 if number % 5 == 0 else 4e-3)
    assert paths.expected_s("/a") == math.inf
    for _ in range(200):
        paths.learn("/a", 1e-4)
    assert 1e-4 <= paths.expected_s("/a") < 1e-3


def test_after_a_very_long_one_a_path_is_not_brief_for_a_while():
    paths = BriefPaths()
    paths.learn("/a", 1e-4)
    paths.learn("/a", 1e-1)
    for _ in range(100):
        assert paths.expected_s("/a") == math.inf
        paths.learn("/a", 1e-4)
    for _ in range(200):
        paths.learn("/a", 1e-4)
    assert paths.expected_s("/a") < 1.5e-3


def test_no_more_paths_are_known_than_there_is_room_for():
    paths = BriefPaths()
    for number in range(10_000):
        paths.learn(f"/{number}", 1e-5)
    assert paths.expected_s("/255") == 1e-5
    assert paths.expected_s("/9999") == math.inf
    assert len(paths._expected_s) == 256
