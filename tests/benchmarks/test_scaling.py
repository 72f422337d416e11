"""The simulation of clusters: queues as theory has them, policies in their order, no request lost in it."""

from __future__ import annotations

import json
import math
import random
import re

import pytest

from benchmarks.cluster_simulation import Cluster, ClusterRun, Policy, Traffic, Trouble, simulate_cluster
from benchmarks.request_counts import RequestCounts
from benchmarks.scaling import CASES, PICTURES, validated
from tests.conftest import ROOT

SERVICE_S = 0.02


def exponential(count: int = 5000) -> list[float]:
    dice = random.Random(3)  # noqa: S311  # no secrets
    return [dice.expovariate(1 / SERVICE_S) for _ in range(count)]


def run(
    policy: Policy, *, servers: int = 10, load: float = 0.8, seconds: float = 60, **more: float
) -> ClusterRun:
    cluster = Cluster(servers, 1, exponential(), policy, queue=10_000)
    return simulate_cluster(Traffic(load * servers / SERVICE_S, seconds, **more), cluster, seed=1)


def conserved(found: ClusterRun) -> None:
    assert len(found.latencies_s) + found.refused + found.lost == found.requests
    assert sum(found.answered_by) == len(found.latencies_s)


@pytest.mark.parametrize(("at_once", "load"), [(1, 0.5), (1, 0.8), (4, 0.8)])
def test_one_server_waits_as_erlang_says(at_once: int, load: float) -> None:
    service = exponential(20_000)
    mean = sum(service) / len(service)
    rate = load * at_once / mean
    found = simulate_cluster(Traffic(rate, 30_000 / rate), Cluster(1, at_once, service, queue=10**6), seed=2)
    offered = load * at_once
    tail = offered**at_once / math.factorial(at_once) / (1 - load)
    waits = tail / (sum(offered**n / math.factorial(n) for n in range(at_once)) + tail)
    wanted = waits * mean / (at_once * (1 - load))
    waited = sum(found.latencies_s) / len(found.latencies_s) - mean
    assert waited == pytest.approx(wanted, rel=0.12, abs=0.02 * mean)
    assert sum(found.busy_s) / (found.seconds * at_once) == pytest.approx(load, rel=0.03)
    conserved(found)


def test_looking_at_all_beats_two_beats_any() -> None:
    tails = {policy: run(policy).latency_s(0.99) for policy in ("full scan", "power of two", "random")}
    assert tails["full scan"] < 0.8 * tails["power of two"]
    assert tails["power of two"] < 0.6 * tails["random"]
    assert run("full scan").latency_s(0.99) < run("round robin").latency_s(0.99)


def test_round_robin_is_even_and_blind_to_a_server_that_stands_still() -> None:
    even = run("round robin")
    assert max(even.answered_by) - min(even.answered_by) <= 2
    halting = Trouble(stopped_share=0.5)
    terms = (Traffic(20, 120), Cluster(2, 1, [SERVICE_S], "round robin"), halting)
    blind = simulate_cluster(*terms, seed=1)
    aware = simulate_cluster(terms[0], Cluster(2, 1, [SERVICE_S], "full scan"), halting, seed=1)
    assert abs(blind.answered_by[0] - blind.answered_by[1]) <= 2
    assert aware.answered_by[1] < 0.42 * aware.requests
    assert aware.latency_s(0.9) < blind.latency_s(0.9)
    assert blind.latency_s(1.0) >= 0.49


def test_many_balancers_see_only_their_own() -> None:
    def tail(balancers: int) -> float:
        cluster = Cluster(20, 1, exponential(), "full scan", balancers=balancers, queue=10_000)
        return simulate_cluster(Traffic(0.8 * 20 / SERVICE_S, 30), cluster, seed=1).latency_s(0.99)

    assert tail(1) < tail(10) < tail(200)


def test_bursts_have_the_same_mean_and_a_longer_tail() -> None:
    calm = run("full scan", load=0.5)
    bursts = run("full scan", load=0.5, burst=3, burst_share=0.1, burst_s=0.5)
    assert bursts.requests == pytest.approx(calm.requests, rel=0.1)
    assert bursts.latency_s(0.99) > 2 * calm.latency_s(0.99)


def test_a_dead_server_costs_a_second_try_and_seldom_a_request() -> None:
    cluster = Cluster(10, 1, [SERVICE_S], queue=50)
    found = simulate_cluster(Traffic(200, 300), cluster, Trouble(mtbf_s=100, start_s=5), seed=1)
    conserved(found)
    assert found.again > 20
    assert found.lost + found.refused < 0.002 * found.requests
    one = simulate_cluster(
        Traffic(20, 300), Cluster(1, 1, [SERVICE_S]), Trouble(mtbf_s=50, start_s=5), seed=1
    )
    conserved(one)
    assert one.lost > 100  # there is no other


def test_a_rolling_update_loses_nothing_where_the_rest_can_take_it() -> None:
    cluster = Cluster(10, 2, [SERVICE_S])
    trouble = Trouble(update_at_once=1, drain_s=0.5, start_s=3)
    found = simulate_cluster(Traffic(600, 60), cluster, trouble, seed=1)
    conserved(found)
    assert (found.lost, found.refused, found.again) == (0, 0, 0)
    half = simulate_cluster(
        Traffic(600, 60), cluster, Trouble(update_at_once=6, drain_s=0.5, start_s=3), seed=1
    )
    assert half.latency_s(0.99) > 5 * found.latency_s(0.99)


def test_more_than_fits_is_refused() -> None:
    found = simulate_cluster(Traffic(200, 20), Cluster(2, 1, [SERVICE_S], queue=4), seed=1)
    conserved(found)
    assert len(found.latencies_s) == pytest.approx(100 * 20, rel=0.05)
    assert found.refused > 1500
    assert max(found.latencies_s) <= 5 * SERVICE_S + 1e-9


def test_equal_seeds_give_equal_runs() -> None:
    assert run("random", seconds=2) == run("random", seconds=2)


def test_the_fewest_are_found_whatever_changes() -> None:
    dice = random.Random(1)  # noqa: S311  # no secrets
    counts, known, listed = RequestCounts(7, dice), [0] * 7, set(range(7))
    for _ in range(3000):
        server = dice.randrange(7)
        what = dice.randrange(4)
        if what == 0 and known[server]:
            counts.change(server, -1)
            known[server] -= 1
        elif what == 1:
            counts.unlist(server)
            listed.discard(server)
        elif what == 2:
            counts.list(server)
            listed.add(server)
        else:
            counts.change(server, 1)
            known[server] += 1
        avoid = dice.choice([-1, server])
        found = counts.least(avoid)
        others = listed - {avoid}
        if others:
            assert found in others
            assert known[found] == min(known[one] for one in others)
        else:
            assert found == (avoid if avoid in listed else None)


def test_a_measurement_is_simulated_with_its_own_times() -> None:
    alone = [10.0] * 101
    rows = [
        {"balancer": "envoy", "protocol": "http", "situation": situation, "p50_ms": 10.0, "p99_ms": 12.0}
        | {"of_second": 0.5, **({"alone_ms": alone} if situation == "well" else {})}
        for situation in ("well", "killed", "slowed")
    ]
    well, slowed = validated({"rows": rows, "rate_per_s": 10.0, "seconds": 20.0})
    assert (well["situation"], slowed["situation"]) == ("well", "slowed")
    assert well["simulated_p50_ms"] == pytest.approx(10)
    assert well["simulated_of_second"] == pytest.approx(0.5, abs=0.06)
    assert slowed["simulated_of_second"] < 0.4
    assert 400 < slowed["simulated_p99_ms"] < 600


def test_the_page_shows_what_the_file_has() -> None:
    """Every time that the page names is one of the result file."""
    kept = json.loads((ROOT / "docs" / "results" / "scaling.json").read_text())
    assert kept.keys() >= {*CASES, "validation"}
    page = (ROOT / "docs" / "scaling.md").read_text()
    for name in PICTURES:
        picture = (ROOT / "docs" / "scaling" / f"{name}.svg").read_text()
        assert picture.startswith("<svg")
    shown = {float(found) for found in re.findall(r"([\d.,]+) ms", page.replace(",", ""))}
    known = {row[key] for name in CASES for row in kept[name]["rows"] for key in ("p50_ms", "p99_ms")}
    assert shown
    assert shown <= {float(f"{value:.0f}") for value in known}
