"""One trial, from a point to figures: what is set is in force, spoiled windows come again."""

from __future__ import annotations

import contextlib
import os

import pytest

from cpuserve.errors import CpuserveError, UnknownModel, UsageError
from cpuserve.measuring.load_window import LoadWindow
from cpuserve.models.example_model import EXAMPLE_PICTURE
from cpuserve.tune import measurer
from cpuserve.tune.measurer import Measurer
from cpuserve.tune.trial import Point
from tests.conftest import ROOT

MODELS = ROOT / "ir_models"
PICTURES = EXAMPLE_PICTURE.parent
SHORT = {"window_seconds": 0.2, "max_windows": 3, "foreign_limit": 1000.0}


def window(images=100, foreign=0.0, mib=10.0, latency=5.0, statuses=None):
    return LoadWindow(
        *(images, 2.0, 2.0, statuses or {"200": images}, [latency] * images, 0.1, foreign * 2, 2.0, 0.4, mib)
    )


@pytest.fixture
def scripted(monkeypatch):
    """A measurer whose windows are given; the first, to warm up, is not among them."""

    def make(*windows, **options):
        class Running:
            def __init__(self):
                self.left = iter(windows)

            def window(self, number, _seconds):
                return next(self.left) if number >= 0 else window(1)

            def facts(self):
                return {"workers": 2}

        @contextlib.contextmanager
        def http_trial(_subject, _connections):
            yield Running()

        monkeypatch.setattr(measurer, "http_trial", http_trial)
        return Measurer(["digits"], MODELS, PICTURES, **options)

    return make


def test_the_last_three_windows_that_agree_are_the_figures(scripted):
    found = scripted(window(20), window(100), window(104, mib=30), window(102))(Point())
    assert found.images_per_s == pytest.approx(51)
    assert found.noise == pytest.approx(4 / 102)
    assert (found.stable, found.windows, found.repeated, found.rss_mib) == (True, 4, 0, 30)
    assert found.p50_ms == 5.0
    assert found.cpu_ms == pytest.approx(1000 * 1.2 / 306)
    assert found.facts["workers"] == 2
    assert found.facts["pictures"].startswith("1 pictures of example")


def test_spoiled_windows_are_measured_again_and_do_not_count(scripted):
    seen = []
    noisy = window(30, foreign=0.5)
    windows = [noisy, window(100), noisy, window(101), window(102)]
    found = scripted(*windows, on_window=lambda rate, counts: seen.append((rate, counts)))(Point())
    assert (found.repeated, found.windows, found.facts["spoiled"]) == (2, 3, 0)
    assert found.images_per_s == pytest.approx(50.5)
    assert seen[:2] == [(15.0, False), (50.0, True)]


def test_a_machine_that_is_never_quiet_has_figures_that_say_so(scripted):
    found = scripted(*[window(100, foreign=1.5)] * 6, max_windows=3)(Point())
    assert (found.repeated, found.facts["spoiled"], found.foreign_cores) == (3, 3, 1.5)


def test_windows_that_never_agree_are_not_stable(scripted):
    found = scripted(window(50), window(100), window(50), window(100), max_windows=4)(Point())
    assert (found.stable, found.windows) == (False, 4)


def test_a_trial_without_an_answer_has_failed(scripted):
    refused = LoadWindow(10, 2.0, 2.0, {"503": 10}, [], 0.1, 0.0, 2.0, 0.4, 9.0)
    with pytest.raises(CpuserveError, match="no request was answered: 30 x 503"):
        scripted(refused, refused, refused, max_windows=3)(Point())


@pytest.mark.parametrize("mix", [(1, 2), (0,)])
def test_a_mix_that_does_not_fit_is_refused(mix):
    with pytest.raises(UsageError, match="one whole number from 1 for each"):
        Measurer(["digits"], MODELS, mix=mix)


@pytest.fixture
def two_models(tmp_path):
    """``a`` and ``b``, beside one that cannot be served and is not among those that are measured."""
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(MODELS / "digits")
    (tmp_path / "broken" / "1").mkdir(parents=True)
    for ending in ("xml", "bin"):
        (tmp_path / "broken" / "1" / f"model.{ending}").write_text("no model")
    return tmp_path


@pytest.mark.parametrize("level", ["http", "engine"])
def test_a_real_trial_has_what_was_set_in_force(level, two_models, monkeypatch):
    monkeypatch.setenv("CPUSERVE_MAX_BATCH", "1")  # of whoever tunes: it must decide nothing
    point = Point.of({"workers": 1, "threads": 2, "streams": 1, "max_batch": 2, "env.OMP_NUM_THREADS": 1})
    fixed = {"precision": "f32", "threads": 3}
    measurer = Measurer(["a", "b"], two_models, PICTURES, level=level, mix=[3, 1], fixed=fixed, **SHORT)
    found = measurer(point)
    assert found.images_per_s > 0
    assert found.p99_ms >= found.p50_ms > 0
    assert found.cpu_ms > 0
    assert found.rss_mib > 20
    facts = found.facts
    assert facts["workers"] == len(facts["placement"]["seats"]) == 1
    assert facts["properties"].keys() == {"a", "b"}
    assert facts["properties"]["b"]["NUM_STREAMS"] == "1"
    assert facts["properties"]["b"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert (facts["tbb"], facts["openmp"], facts["errors"]) == (True, [], {})
    assert "OMP_NUM_THREADS=1" in facts["variables"]
    if level == "http":
        assert facts["properties"]["a"]["batches"] == "[1, 2]"


@pytest.mark.parametrize("level", ["http", "engine"])
def test_a_point_that_cannot_be_has_a_reason(level):
    measurer = Measurer(["digits"], MODELS, PICTURES, level=level)
    with pytest.raises(CpuserveError, match="--workers 4096, but this process may use"):
        measurer(Point.of({"workers": 4096}))
    with pytest.raises(UnknownModel, match="no model 'none'"):
        Measurer(["none"], MODELS, PICTURES, level=level)(Point())


@pytest.mark.parametrize("level", ["http", "engine"])
def test_a_model_that_cannot_be_loaded_is_the_reason(level, no_model):
    with pytest.raises(CpuserveError, match=r"model\.xml cannot be read"):
        Measurer(["m"], no_model, PICTURES, level=level)(Point.of({"workers": 1}))


@pytest.fixture
def no_model(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    for ending in ("xml", "bin"):
        (tmp_path / "m" / "1" / f"model.{ending}").write_text("no model")
    return tmp_path


def test_hints_are_points_of_one_worker(no_model):
    found = Measurer(["digits"], MODELS).hints()
    assert set(found) == {"THROUGHPUT", "LATENCY"}
    latency = found["LATENCY"].settings()
    assert (latency["workers"], latency["streams"]) == (1, 1)
    assert 1 <= latency["inference_threads"] <= len(os.sched_getaffinity(0))
    with pytest.raises(CpuserveError, match=r"hints for .*model\.xml cannot be asked for: OpenVINO cannot"):
        Measurer(["m"], no_model).hints()
