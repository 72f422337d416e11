"""Tails: the ratios are those of the latencies beside them; the least there could be is that of a queue."""

import math

import pytest

from benchmarks.tails import least_p99
from tests.benchmarks.running import run


def test_a_small_run(tmp_path):
    words = ("--seconds", "0.3", "--rounds", "1", "--connections", "4", "--layouts", "default", "one worker")
    found = run("tails", tmp_path / "tails.json", *words)
    assert list(found["layouts"]) == ["default", "one worker"]
    for layout in found["layouts"].values():
        (one,) = layout["rounds"]
        assert one["errors"] == {}
        assert one["p99_to_p50"] == pytest.approx(one["p99_ms"] / one["p50_ms"])
        assert one["rate_p99_to_service"] == pytest.approx(one["rate_p99_ms"] / one["service_ms"])
        assert one["rate_per_s"] == pytest.approx(0.7 * one["capacity_per_s"])
        assert one["least_p99_to_service"] > 0
        assert layout["medians"].keys() == one.keys() - {"errors"}


def test_without_a_queue_nobody_waits():
    assert least_p99(1.0, 1000, 0, 4, 0.001) == pytest.approx(0.001)


def test_one_server_is_erlangs_queue():
    load, seconds = 0.7, 200_000
    waited = least_p99(load, seconds, 0, 1, 1.0) - 1
    # the waiting time of M/D/1: A. K. Erlang, The Theory of Probabilities and Telephone Conversations, 1909
    terms = [
        (-load * (waited - k)) ** k / math.factorial(k) * math.exp(load * (waited - k))
        for k in range(math.floor(waited) + 1)
    ]
    assert (1 - load) * sum(terms) == pytest.approx(0.99, abs=0.002)


def test_a_shared_queue_is_shorter_the_more_serve_it():
    waits = [least_p99(0.7 * servers, 50_000, 0, servers, 1.0) for servers in (1, 2, 4, 8)]
    assert waits == sorted(waits, reverse=True)
    assert 3.5 < waits[1] < 4.5  # so that 3 is out of reach on two cores
    assert waits[2] < 3  # and not on four
