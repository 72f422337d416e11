"""Frames are answered once each, whatever their replicas do."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.video.frame_messages import served_model
from cpuserve.video.replica_link import FrameRefused, ReplicaFailed
from cpuserve.video.replicas import Replicas
from cpuserve.video.scale import Scale
from tests.servers import free_port
from tests.video.fake_replica import HEIGHT, SPOILT, WIDTH, fake_replicas


@pytest.fixture
def two():
    with fake_replicas(2) as found:
        yield found


def open_replicas(fakes, **more) -> Replicas:
    return Replicas([one.url for one in fakes], "colours", **{"payload": "raw", "timeout_s": 5, **more})


def frame(number: int) -> np.ndarray:
    """A frame whose sum is its number."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels.reshape(-1)[: number // 255] = 255
    pixels.reshape(-1)[-1] = number % 255
    return pixels


def run(model: Replicas, count: int) -> None:
    """Have frames answered, and check that each got its own answer."""
    answers = [model.submit(frame(number), 640, 480) for number in range(1, count + 1)]
    found = [answer.result(60) for answer in answers]
    said = {"model": "colours", "version": "1", "size": [640, 480]}
    assert found == [{**said, "sum": number} for number in range(1, count + 1)]


def test_every_frame_gets_its_answer_and_both_replicas_work(two):
    with open_replicas(two) as model:
        assert model.scale == Scale(WIDTH, HEIGHT, "RGB")
        assert (model.name, model.version, model.checksum) == ("colours", 1, "abc")
        run(model, 200)
        report = model.report()
    assert sorted(two[0].frames + two[1].frames) == list(range(1, 201))  # none twice either
    assert min(len(one.frames) for one in two) > 20
    assert report["frames"] == 200
    assert [one["frames"] for one in report["replicas"]] == [len(one.frames) for one in two]


@pytest.mark.parametrize("behaviour", ["busy", "garbage", "half", "cut", "reset", "error", *SPOILT])
def test_frames_of_a_replica_that_misbehaves_go_elsewhere(two, behaviour):
    two[1].behaviour = behaviour
    with open_replicas(two) as model:
        run(model, 100)
        (good, bad) = model.report()["replicas"]
    assert sorted(two[0].frames) == list(range(1, 101))
    assert (good["frames"], bad["frames"]) == (100, 0)
    assert bad["refusals" if behaviour == "busy" else "failures"] >= 1
    assert good["failures"] == good["refusals"] == 0
    # it is tried again and again, but ever more rarely
    assert len(two[1].requests) < 12


def test_frames_of_a_replica_that_hangs_go_elsewhere(two):
    two[1].behaviour = "hang"
    with open_replicas(two, timeout_s=0.3) as model:
        run(model, 60)
    assert sorted(two[0].frames) == list(range(1, 61))


def test_a_slow_replica_gets_fewer_frames(two):
    two[1].delay_s = 0.1
    two[0].delay_s = 0.005
    with open_replicas(two) as model:
        run(model, 100)
    assert 0 < len(two[1].frames) < len(two[0].frames) / 2


def test_a_replica_comes_back(two):
    two[1].behaviour = "reset"
    with open_replicas(two) as model:
        run(model, 20)
        two[1].ready = False
        probes = two[1].probes
        while two[1].probes < probes + 2:
            run(model, 5)
        assert two[1].frames == []  # not ready: it got none
        two[1].ready, two[1].behaviour = True, "good"
        while not two[1].frames:
            run(model, 5)
        assert model.report()["replicas"][1]["absences"] >= 1


def test_a_replica_that_is_killed_loses_no_frame(two):
    with open_replicas(two) as model:
        two[0].delay_s = two[1].delay_s = 0.005
        answers = []
        for number in range(1, 301):
            answers.append(model.submit(frame(number), 640, 480))
            if number == 100:
                two[1].behaviour = "reset"  # connections that are there already
                two[1].stop()
        assert [one.result(60)["sum"] for one in answers] == list(range(1, 301))


def test_without_a_usable_replica_frames_wait_and_then_name_the_reasons(two):
    with open_replicas(two, wait_s=1.0) as model:
        run(model, 4)
        two[0].behaviour, two[1].behaviour = "error", "busy"
        two[0].ready = False
        answers = [model.submit(frame(number), 640, 480) for number in range(1, 9)]
        for answer in answers:
            with pytest.raises(CpuserveError) as refused:
                answer.result(60)
        assert f"{two[0].url}: 503: still loading" in str(refused.value)
        assert f"{two[1].url}: 503: full" in str(refused.value)
        assert "--replica-wait" in str(refused.value)


def test_replicas_that_come_back_in_time_answer_all(two):
    with open_replicas(two, wait_s=60.0) as model:
        two[0].behaviour = two[1].behaviour = "busy"
        answers = [model.submit(frame(number), 640, 480) for number in range(1, 9)]
        timer = threading.Timer(0.5, lambda: [setattr(one, "behaviour", "good") for one in two])
        timer.start()
        assert [answer.result(60)["sum"] for answer in answers] == list(range(1, 9))


def test_a_frame_that_is_refused_takes_no_other_with_it(two):
    for one in two:
        one.behaviour, one.overhead_s = "refuse", 0.02
    with open_replicas(two) as model:
        run(model, 20)  # frames go together now, since sending costs more than answering
        answers = [model.submit(frame(0 if number == 7 else number), 640, 480) for number in range(1, 40)]
        for number, answer in enumerate(answers, 1):
            if number == 7:
                with pytest.raises(FrameRefused, match="a black frame"):
                    answer.result(60)
            else:
                assert answer.result(60)["sum"] == number
    assert max(two[0].requests + two[1].requests) > 1


def test_a_frame_that_fails_everywhere_is_given_up(two):
    two[0].behaviour = two[1].behaviour = "error"
    with open_replicas(two) as model:
        with pytest.raises(ReplicaFailed, match=r"failed 6 times.*500: the model failed"):
            model.submit(frame(1), 640, 480).result(60)
        two[0].behaviour = "good"
        run(model, 5)


def test_frames_go_together_where_sending_costs_much(two):
    for one in two:
        one.overhead_s = 0.02
    with open_replicas(two) as model:
        run(model, 120)
    assert max(two[0].requests) > 1
    for one in two:
        one.requests.clear()
        one.overhead_s, one.delay_s = 0.0, 0.2  # what the server itself takes is no reason
    with open_replicas(two) as model:
        run(model, 12)
    assert {*two[0].requests, *two[1].requests} == {1}


@pytest.mark.parametrize(("what", "value"), [("checksum", "def"), ("version", "2")])
def test_another_model_on_a_replica_gets_no_frames_and_is_said(two, what, value, caplog):
    setattr(two[1], what, value)
    two[1].after = two[0].described  # else a slow first one leaves the run's model to the second
    with caplog.at_level(logging.WARNING, "cpuserve.video"), open_replicas(two) as model:
        run(model, 30)
        # a slow one is left out for not saying what it serves, and is looked at again
        while value not in (reason := model.report()["replicas"][1]["reason"]):
            run(model, 1)
    assert two[1].frames == []
    assert "version" in reason and value in reason and "this run uses version 1 (abc)" in reason
    assert reason in caplog.text


def test_a_replica_that_says_late_that_it_has_another_model_gets_no_frames(two):
    two[1].checksum, two[1].hangs = "def", True
    with open_replicas(two) as model:
        run(model, 10)
        assert "did not say" in model.report()["replicas"][1]["reason"]
        two[1].hangs = False
        two[1].released.set()
        while "def" not in (reason := model.report()["replicas"][1]["reason"]):
            run(model, 1)
    assert two[1].frames == []
    assert "this run uses version 1 (abc)" in reason


def test_a_key_goes_along(two):
    with open_replicas(two, api_key="secret") as model:
        run(model, 4)
    assert two[0].keys == {"secret"}


def test_servers_that_are_not_there_are_named_with_their_reasons():
    ports = [free_port(), free_port()]
    with pytest.raises(CpuserveError) as refused:
        Replicas([f"http://127.0.0.1:{port}" for port in ports], "colours", wait_s=0.2)
    for port in ports:
        reason = f"http://127.0.0.1:{port}: no connection to 127.0.0.1:{port}: Connection refused"
        assert reason in str(refused.value)


def test_what_no_waiting_mends_is_said_at_once(two):
    two[0].missing = two[1].missing = True
    with pytest.raises(CpuserveError, match=r"no replica serves colours: .*404: no such model") as refused:
        open_replicas(two, wait_s=600)
    assert all(one.url in str(refused.value) for one in two)


def test_one_may_still_come_where_the_other_never_will(two, caplog):
    two[0].missing, two[1].ready = True, False
    threading.Timer(0.3, lambda: setattr(two[1], "ready", True)).start()
    with caplog.at_level(logging.WARNING, "cpuserve.video"), open_replicas(two, wait_s=60) as model:
        run(model, 5)
    assert "waiting up to 60 s for replicas of colours" in caplog.text


def test_a_run_starts_with_the_replicas_that_are_there(two, caplog):
    two[0].ready = False
    with caplog.at_level(logging.WARNING, "cpuserve.video"), open_replicas(two) as model:
        assert f"replica {two[0].url} gets no frames for now: 503: still loading" in caplog.text
        run(model, 10)
        assert two[0].frames == []
        two[0].ready = True
        while not two[0].frames:
            run(model, 10)


@pytest.mark.parametrize(
    ("what", "value", "told"),
    [
        (
            "checksum",
            "def",
            r"it serves version 1 \(def\) of colours; load version 1 \(abc\) of colours there",
        ),
        ("version", "7", r"it serves version 7 \(abc\) of colours; load version 1 \(abc\) of colours there"),
        ("name", "shapes", r"it serves version 1 \(abc\) of shapes; load version 1 \(abc\) of colours there"),
    ],
)
def test_the_model_that_a_run_needs_is_found_also_behind_another_one(two, what, value, told, caplog):
    urls = [one.url for one in two]
    setattr(two[0], what, value)
    with (
        caplog.at_level(logging.WARNING, "cpuserve.video"),
        Replicas(urls, "colours/1", payload="raw", checksum="abc") as model,
    ):
        run(model, 10)
    assert two[0].frames == []
    assert re.search(f"replica {two[0].url} gets no frames for now: {told}", caplog.text)
    with pytest.raises(CpuserveError, match=f"no replica serves colours/1: {two[0].url}: {told}"):
        Replicas(urls[:1], "colours/1", checksum="abc", wait_s=600)


def test_a_replica_that_comes_back_with_other_files_gets_no_frames_and_is_said(two, caplog):
    urls = [one.url for one in two]
    with (
        caplog.at_level(logging.WARNING, "cpuserve.video"),
        Replicas(urls, "colours", payload="raw", checksum="abc") as model,
    ):
        two[1].checksum, two[1].behaviour = "def", "reset"
        while "def" not in model.report()["replicas"][1]["reason"]:
            run(model, 5)
    assert f"replica {two[1].url} gets no frames: it serves version 1 (def) of colours" in caplog.text


def test_a_replica_that_never_has_room_is_said_once(two, caplog):
    two[1].behaviour = "busy"
    with caplog.at_level(logging.WARNING, "cpuserve.video"), open_replicas(two) as model:
        while model.report()["replicas"][1]["refusals"] < 4:
            run(model, 5)
    assert caplog.text.count(f"replica {two[1].url} has no room time and again: 503: full") == 1


def test_a_port_that_speaks_another_protocol_says_which(two):
    port = free_port()
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    http = two[0].url.removeprefix("http://")
    told = {
        f"http://127.0.0.1:{port}": f"HTTP/2 only, as gRPC does: give it as grpc://127.0.0.1:{port}",
        f"grpc://{http}": f"it speaks no gRPC: give it as http://{http}, or its gRPC port",
        f"https://{http}": f"it speaks no TLS: give it as http://{http}",
        f"grpcs://127.0.0.1:{port}": f"it speaks no TLS: give it as grpc://127.0.0.1:{port}",
        f"http://{http}/v2": "404: there is nothing (/v2 of its URL comes before /v2/models)",
    }
    try:
        with pytest.raises(CpuserveError) as refused:
            Replicas([*told], "colours", wait_s=600)
    finally:
        server.stop(None)
    for url, reason in told.items():
        assert f"{url}: {reason}" in str(refused.value) or f"{url}: it speaks {reason}" in str(refused.value)


def test_a_server_that_describes_no_model_says_what_is_missing():
    with pytest.raises(ReplicaFailed, match="what it says of its model cannot be read: 'inputs' is missing"):
        served_model({"hello": "world"}, {}, pytest.fail)


def test_a_run_starts_although_another_replica_hangs(two):
    two[0].hangs = True
    with open_replicas(two) as model:
        run(model, 10)
        assert "did not say within 2 s" in model.report()["replicas"][0]["reason"]
        two[0].hangs = False
        two[0].released.set()
        while not two[0].frames:
            run(model, 10)


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        (["ftp://a"], "'ftp://a' is no URL of a server"),
        (["127.0.0.1:8000"], "is no URL of a server"),
        (["http://"], "is no URL of a server"),
        (["http://a:99999"], "is no URL of a server"),
        (["http://a", "http://a/"], "given twice"),
        (["http://a?x=1"], r"'http://a\?x=1' has a query or a fragment"),
        (["http://a/#x"], "has a query or a fragment"),
        (
            ["grpc://a:8001/models"],
            "'grpc://a:8001/models' has a path or a user, which gRPC has no place for",
        ),
        (["grpcs://me:secret@a"], "has a path or a user"),
        ([], "no replica is given"),
    ],
)
def test_bad_urls_are_refused(urls, reason):
    with pytest.raises(UsageError, match=reason):
        Replicas(urls, "colours", wait_s=0.1)


def test_pixels_of_another_shape_are_refused(two):
    with open_replicas(two) as model, pytest.raises(CpuserveError, match=r"uint8 \[6, 8, 3\], not uint8"):
        model.submit(np.zeros((8, 8, 3), np.uint8), 640, 480)


def test_after_closing_waiting_frames_fail_and_new_ones_are_refused(two):
    two[0].behaviour = two[1].behaviour = "hang"
    model = open_replicas(two)
    answers = [model.submit(frame(number), 640, 480) for number in range(20)]
    model.close()
    for answer in answers:
        with pytest.raises(CpuserveError, match="closed before they answered"):
            answer.result(10)
    with pytest.raises(CpuserveError, match="are closed"):
        model.submit(frame(1), 640, 480)


def test_whoever_submits_while_another_thread_closes_is_told(two):
    for one in two:
        one.delay_s = 0.001
    model, answers, refused = open_replicas(two), [], []

    def submit():
        try:
            while True:
                answers.append(model.submit(frame(len(answers) + 1), 640, 480))
        except CpuserveError as error:
            refused.append(str(error))

    thread = threading.Thread(target=submit)
    thread.start()
    while len(answers) < 50:
        assert model.report()["model"] == "colours"  # also while frames are answered
    model.close()
    thread.join(30)
    assert refused == ["the replicas of colours are closed"]
    for answer in answers:  # none is left without a word
        assert isinstance(answer.exception(10), CpuserveError) or answer.result(0)["sum"] > 0


def test_a_frame_submitted_while_the_loop_ends_is_told(two):
    model, waits, ended, answers = open_replicas(two), threading.Event(), threading.Event(), []
    room, join = model._room.take, model._thread.join

    def waiting_for_room(size):
        room(size)
        waits.set()
        assert ended.wait(30)

    def joined():
        join()
        ended.set()
        thread.join()  # the loop has ended, and is not closed yet

    model._room.take, model._thread.join = waiting_for_room, joined
    thread = threading.Thread(target=lambda: answers.append(model.submit(frame(1), 640, 480)))
    thread.start()
    assert waits.wait(30)
    model.close()
    (answer,) = answers
    with pytest.raises(CpuserveError, match="are closed"):
        answer.result(10)


def test_a_report_asked_for_while_another_thread_closes_is_given(two, monkeypatch):
    model, asks, closed, reports = open_replicas(two), threading.Event(), threading.Event(), []
    run(model, 3)
    scheduled = asyncio.run_coroutine_threadsafe

    def late(work, loop):
        if threading.current_thread() is thread:
            asks.set()
            closed.wait(0.3)  # whoever closes waits for this, or has ended
        return scheduled(work, loop)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", late)
    thread = threading.Thread(target=lambda: reports.append(model.report()))
    thread.start()
    assert asks.wait(30)
    model.close()
    closed.set()
    thread.join(30)
    (report,) = reports
    assert report["frames"] == 3


def test_a_registry_is_followed_and_no_frame_is_lost(two, tmp_path, monkeypatch):
    monkeypatch.setattr("cpuserve.video.frame_dispatcher.FOLLOW_S", 0.02)
    registry = tmp_path / "endpoints"
    registry.write_text(f"{two[0].url}\n")
    with Replicas([f"@{registry}"], "colours", payload="raw", timeout_s=5) as model:
        run(model, 20)
        assert (len(two[0].frames), len(two[1].frames)) == (20, 0)
        registry.write_text(f"{two[0].url}\n{two[1].url}\n")
        while not two[1].frames:
            run(model, 10)
        registry.write_text(f"{two[1].url}\n")
        two[0].delay_s = 0.3
        before = -1
        while before != len(two[0].frames):
            before = len(two[0].frames)
            run(model, 10)
        run(model, 50)
        assert len(two[0].frames) == before
        report = model.report()
    assert [one["url"] for one in report["replicas"]] == [one.url for one in two]
    assert report["frames"] == len(two[0].frames) + len(two[1].frames)


def test_an_empty_registry_is_waited_for(two, tmp_path):
    registry = tmp_path / "endpoints"
    registry.write_text("")
    threading.Timer(0.7, lambda: registry.write_text(two[0].url)).start()
    with Replicas([f"@{registry}"], "colours", payload="raw", timeout_s=5) as model:
        run(model, 5)
    registry.write_text("")
    with pytest.raises(UsageError, match="no server is named"):
        Replicas([f"@{registry}"], "colours", wait_s=0.1)
