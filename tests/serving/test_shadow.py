"""A candidate answers copies of requests: what is compared, what is counted, and what is left out."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import RequestError
from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.request import Request
from cpuserve.serving.shadow import Shadow, ShadowThread, key_of
from cpuserve.serving.shadow_counters import ShadowCounters
from cpuserve.serving.statistics import Statistics
from cpuserve.settings import Settings
from tests.conftest import ROOT
from tests.wrong_digits import good_digits, wrong_digits

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
WAIT_S = 30


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    statistics, made = Statistics(rows=1), {}
    for number, make in ((1, good_digits), (2, wrong_digits), (3, good_digits)):
        file = ModelFile("digits", number, make(root / str(number)) / "model.xml")
        settings = Settings(precision="f32", max_batch=2)
        made[number] = load_pipeline(
            openvino_core(), file, settings, 1, statistics.recorder(0, "digits", number)
        )
    return made, statistics


class Given:
    """A shadow with counters of its own, and the thread that runs it."""

    def __init__(self, stable, candidate, share=1.0, busy=lambda: False):
        self.counters = ShadowCounters(rows=2)
        self.thread = ShadowThread(busy)
        cell = self.counters.cell(0, key_of(stable, candidate))
        self.shadow = Shadow(stable, candidate, share, cell, self.thread)

    @property
    def totals(self):
        return self.counters.totals(self.shadow.key)

    def wait(self, **wanted):
        until = time.monotonic() + WAIT_S
        while any(self.totals.counters[name] < count for name, count in wanted.items()):
            assert time.monotonic() < until, self.totals
            time.sleep(0.01)
        return self.totals


def test_equal_versions_agree_wholly_and_wrong_ones_not(versions):
    made, statistics = versions
    for candidate, agreement in ((3, 1.0), (2, 0.0)):
        given = Given(made[1], made[candidate])
        before = statistics.totals("digits", candidate)["success"]
        expected = made[1].predict(SEVEN, Request())
        assert given.shadow.pipeline.predict(SEVEN, Request()) == expected
        found = given.wait(compared=1)
        assert found.agreement == pytest.approx(agreement, abs=0.01)
        assert found.what == "classes"
        assert (found.counters["answers"], found.counters["missed"]) == (1, candidate == 2)
        assert sum(found.stable_ns) == sum(found.candidate_ns) == 1
        assert (
            min(
                found.counters[f"{role}_{of}_ns"]
                for role in ("stable", "candidate")
                for of in ("infer", "cpu")
            )
            > 0
        )
        assert statistics.totals("digits", candidate)["success"] == before  # clients' requests only
    assert statistics.totals("digits", 1)["success"] >= 2


def test_every_way_of_asking_is_compared(versions):
    made, _ = versions
    given = Given(made[1], made[2])
    asked = given.shadow.pipeline
    rows = np.concatenate([made[1].pictures.picture_input.row(SEVEN)[None]] * 3)
    tensors = rows.reshape(3, *made[1].inputs[0].row_shape).astype(made[1].inputs[0].dtype)
    np.testing.assert_array_equal(
        asked.infer([tensors], Request())[0], made[1].infer([tensors], Request())[0]
    )
    found = given.wait(compared=1)
    assert (found.counters["answers"], found.agreement) == (3, pytest.approx(0, abs=0.01))
    outputs = asked.infer_pictures([SEVEN] * 2, Request())
    np.testing.assert_array_equal(outputs[0], made[1].infer_pictures([SEVEN] * 2, Request())[0])
    assert given.wait(compared=2).counters["answers"] == 5
    assert asked.predict_all([SEVEN] * 2, Request()) == made[1].predict_all([SEVEN] * 2, Request())
    assert asked.render(SEVEN, Request()) == made[1].render(SEVEN, Request())
    assert given.wait(compared=4).counters["answers"] == 8
    asked.infer([np.concatenate([tensors] * 5)], Request())
    assert given.wait(compared=5).counters["answers"] == 16  # at most eight rows of a request
    assert sum(given.totals.stable_ns) == 4  # whose times then are not compared


def test_a_failure_of_the_candidate_is_counted_and_changes_no_answer(versions):
    made, _ = versions

    class Failing:
        def uncounted(self):
            return self

        def outputs_of(self, _picture, _request):
            raise KeyError("tail")

        version, checksum, post, outputs = 9, "x", made[1].post, made[1].outputs

    given = Given(made[1], Failing())
    assert given.shadow.pipeline.predict(SEVEN, Request()) == made[1].predict(SEVEN, Request())
    found = given.wait(failed=1)
    assert found.failure == "KeyError: 'tail'"
    assert found.agreement is None
    with pytest.raises(RequestError):  # what the stable version refuses is nobody's to answer
        given.shadow.pipeline.predict(b"no picture", Request())
    given.shadow.pipeline.predict(SEVEN, Request())
    assert given.wait(failed=2).counters["compared"] == 0


def test_copies_wait_for_idle_moments_and_what_waits_too_long_or_is_too_much_is_shed(versions, monkeypatch):
    made, _ = versions
    monkeypatch.setattr("cpuserve.serving.shadow._BUSY_S", 0.05)
    busy = threading.Event()
    busy.set()
    given = Given(made[1], made[3], busy=busy.is_set)
    answers = [given.shadow.pipeline.predict(SEVEN, Request()) for _ in range(30)]
    assert all(answer == answers[0] for answer in answers)
    found = given.wait(shed=30)
    assert found.counters["compared"] == 0
    busy.clear()
    given.shadow.pipeline.predict(SEVEN, Request())
    given.wait(compared=1)


def test_nothing_is_taken_while_the_queue_is_full(versions, monkeypatch):
    made, _ = versions
    monkeypatch.setattr("cpuserve.serving.shadow._MOST_BYTES", 0)
    given = Given(made[1], made[3])
    assert not given.shadow.takes()
    assert given.totals.counters["shed"] == 1


def test_the_share_is_of_requests(versions):
    made, _ = versions
    for share, least, most in ((0, 0, 0), (0.25, 150, 350), (1, 1000, 1000)):
        shadow = Given(made[1], made[3], share).shadow
        assert least <= sum(shadow.takes() for _ in range(1000)) <= most


def write(folder, model, **card):
    Card(**card).write(model)
    folder.mkdir()
    ov.save_model(model, folder / "model.xml")
    return load_pipeline(
        openvino_core(), ModelFile("m", 1, folder / "model.xml"), Settings(precision="f32", max_batch=1), 1
    )


def segmenter(folder, shift):
    """Class 1 where the picture is brighter than 128 less the shift, else class 0."""
    entry = ops.parameter((-1, 32, 32, 3), np.uint8, name="image")
    entry.output(0).set_names({"image"})
    grey = ops.reduce_mean(ops.convert(entry, "f32"), np.array([3]), True)
    floor = ops.multiply(grey, np.float32(0))
    scores = ops.concat([floor, ops.subtract(grey, np.float32(128 - shift))], 3)
    scores.output(0).set_names({"scores"})
    return write(folder, ov.Model([ops.result(scores)], [entry]), model_type="Segmentation", layout="NHWC")


def test_masks_are_compared_by_class(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 32, dtype=np.uint8), (32, 1))
    picture = cv2.imencode(".png", cv2.merge([ramp] * 3))[1].tobytes()
    given = Given(segmenter(tmp_path / "a", 0), segmenter(tmp_path / "b", 64))
    given.shadow.pipeline.predict(picture, Request())
    found = given.wait(compared=1)
    assert found.what == "masks"
    assert found.agreement == pytest.approx(
        (8 / 16 + 16 / 24) / 2, abs=0.03
    )  # of 32 columns: 16, then 8 are class 0


def test_embeddings_are_compared_around_what_all_have_in_common(tmp_path):
    def embedder(folder, sign):
        entry = ops.parameter((-1, 4), np.float32, name="x")
        entry.output(0).set_names({"x"})
        out = ops.add(ops.multiply(entry, np.float32(sign)), np.float32(10))
        out.output(0).set_names({"y"})
        return write(folder, ov.Model([ops.result(out)], [entry]))

    same = embedder(tmp_path / "a", 1)
    random = np.random.default_rng(0)
    for other, low, high in ((embedder(tmp_path / "b", 1), 0.99, 1), (embedder(tmp_path / "c", -1), 0, 0.3)):
        given = Given(same, other)
        for number in range(20):
            given.shadow.pipeline.infer([random.normal(size=(1, 4)).astype(np.float32)], Request())
            given.wait(**({"silent": number + 1} if number < 8 else {"compared": number - 7}))
        assert given.totals.what == "embeddings"
        assert low <= given.totals.agreement <= high


def test_another_pair_begins_at_zero_in_all_workers_and_a_late_worker_writes_nothing_into_it():
    counters = ShadowCounters(rows=2)
    old = [counters.cell(row, "m/1:a/2:b") for row in (0, 1)]
    for cell in old:
        cell.count("failed")
        cell.timed("stable", 2_000_000, 1)
    assert counters.totals("m/1:a/2:b").counters["failed"] == 2
    assert counters.cell(0, "m/1:a/2:b") is not None
    assert counters.totals("m/1:a/2:b").counters["failed"] == 2  # the same pair goes on
    new = counters.cell(0, "m/1:a/3:c")
    old[1].count("failed")
    old[1].failed("late")
    new.count("failed")
    assert counters.totals("m/1:a/3:c").counters["failed"] == 1
    assert counters.totals("m/1:a/3:c").failure == ""
    assert counters.totals("m/1:a/2:b").counters["failed"] == 0
    for number in range(31):
        assert counters.cell(0, f"other{number}/1:a/2:b") is not None
    assert counters.cell(0, "more/1:a/2:b") is None


def test_the_key_changes_with_the_files(versions):
    made, _ = versions
    assert key_of(made[1], made[2]) != key_of(made[1], replace(made[2], checksum="other"))
