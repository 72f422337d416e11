import pytest

from cpuserve.errors import UsageError
from cpuserve.tune.objective import Constraint, Objective
from cpuserve.tune.trial import Point
from tests.tune.made_trials import figures, trials

THROUGHPUT = Objective()


def best(objective, *rows):
    found = objective.best(trials(*rows))
    return found and dict(found.point.knobs)


@pytest.mark.parametrize(
    ("text", "figure", "most", "bound"),
    [
        ("p99_ms<=50", "p99_ms", True, 50.0),
        (" rss_mb <= 2000 ", "rss_mb", True, 2000.0),
        ("images_per_s>=.5", "images_per_s", False, 0.5),
    ],
)
def test_constraints_are_read(text, figure, most, bound):
    assert Constraint.parse(text) == Constraint(figure, most, bound)


@pytest.mark.parametrize(
    "text", ["p99<=50", "p99_ms<50", "p99_ms<=", "p99_ms<=0", "p99_ms<=-1", "noise<=1", ""]
)
def test_a_constraint_that_is_none_names_the_figures(text):
    with pytest.raises(UsageError, match=r"p99_ms<=50; the figures are .*p99_ms.*rss_mb"):
        Constraint.parse(text)


def test_an_unknown_objective_names_those_there_are():
    with pytest.raises(UsageError, match="throughput, latency, cpu_per_request"):
        Objective.parse("speed")


def test_megabytes_are_not_mebibytes():
    just = figures(rss_mib=2000 / 1.048576)
    assert Constraint.parse("rss_mb<=2001").excess(just) == 0
    assert Constraint.parse("rss_mb<=1999").excess(just) > 0


@pytest.mark.parametrize(
    ("name", "winner"), [("throughput", {"a": 1}), ("latency", {"b": 1}), ("cpu_per_request", {"c": 1})]
)
def test_each_objective_has_its_winner(name, winner):
    rows = (
        ({"a": 1}, figures(200, 20, cpu_ms=9.0)),
        ({"b": 1}, figures(100, 10, cpu_ms=9.0)),
        ({"c": 1}, figures(100, 20, cpu_ms=3.0)),
    )
    assert best(Objective.parse(name), *rows) == winner


def test_constraints_come_before_the_objective():
    fast, slow = ({"a": 1}, figures(200, 60)), ({"b": 1}, figures(100, 40))
    assert best(THROUGHPUT, fast, slow) == {"a": 1}
    assert best(Objective.parse("throughput", ["p99_ms<=50"]), fast, slow) == {"b": 1}
    assert best(Objective.parse("throughput", ["p99_ms<=30"]), fast, slow) == {"b": 1}
    found = Objective.parse("throughput", ["p99_ms<=30"]).best(trials(fast, slow))
    assert found.excess == pytest.approx(1 / 3)


def test_within_the_noise_fewer_settings_win():
    plain, odd = ({}, figures(100, noise=0.04)), ({"a": 1, "b": 2}, figures(103, noise=0.04))
    assert best(THROUGHPUT, plain, odd) == {}
    assert best(THROUGHPUT, ({}, figures(100, noise=0.01)), ({"a": 1}, figures(103, noise=0.01))) == {"a": 1}


def test_each_range_is_its_own():
    steady, wild = ({}, figures(124, noise=0.1)), ({"a": 1}, figures(218, noise=0.86))
    assert best(THROUGHPUT, steady, wild) == {}
    wild_below, steady_above = ({}, figures(124, noise=0.86)), ({"a": 1}, figures(218, noise=0.1))
    assert best(THROUGHPUT, wild_below, steady_above) == {"a": 1}
    one, other = THROUGHPUT.standings(trials(steady, wild))
    assert THROUGHPUT.tie(one, other)
    assert THROUGHPUT.tie(other, one)


def test_drift_of_the_defaults_is_noise_for_all():
    again = ({}, figures(90, noise=0.0), "default-again")
    rows = (({}, figures(100, noise=0.0), "default"), ({"a": 1}, figures(102, noise=0.0)))
    assert best(THROUGHPUT, *rows) == {"a": 1}
    assert best(THROUGHPUT, *rows, again) == {}


def test_a_point_counts_by_the_mean_of_its_trials():
    rows = (({"a": 1}, figures(130, noise=0.0)), ({"a": 1}, figures(90, noise=0.0)), ({"b": 1}, figures(120)))
    first, second = THROUGHPUT.standings(trials(*rows))
    assert (first.point, second.score) == (Point.of({"b": 1}), 110)
    assert second.noise == pytest.approx(40 / 110 / 2**0.5)


def test_of_failures_alone_nothing_is_best():
    assert THROUGHPUT.best(trials(({}, "no"), ({"a": 1}, "no"))) is None
    assert best(THROUGHPUT, ({}, "no"), ({"a": 1}, figures())) == {"a": 1}
