"""The server as a process: seats, replacement of a dead worker, limits, concurrency."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.servers import masks, serving

MODEL = "mobilenet_v2_1.0_224_frozen"
PATH = f"/predictions/{MODEL}"
TWO_CPUS = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two seats need two CPUs")


@TWO_CPUS
def test_every_thread_of_a_worker_is_in_its_seat_and_seats_share_no_cpu(exact_server, data_dir):
    exact_server.post(PATH, (data_dir / "images" / "bee.jpeg").read_bytes())
    seats = [masks(pid) for pid in exact_server.workers()]
    assert [len(found) for found in seats] == [1, 1]
    (first,), (second,) = seats
    assert first and second and not first & second


def test_sixteen_clients_at_once_get_the_answers_single_ones_get(exact_server, data_dir):
    photos = [
        file.read_bytes() for file in sorted((data_dir / "images").glob("*.jp*g")) if "8mp" not in file.name
    ]
    alone = [exact_server.post(PATH, photo).json() for photo in photos]

    def client(start):
        return [
            exact_server.post(PATH, photos[(start + i) % len(photos)]).json()
            == alone[(start + i) % len(photos)]
            for i in range(len(photos))
        ]

    with ThreadPoolExecutor(16) as pool:
        results = [right for found in pool.map(client, range(16)) for right in found]
    assert len(results) == 16 * len(photos)
    assert all(results)


@TWO_CPUS
def test_a_killed_worker_loses_its_own_requests_only_and_its_seat_is_taken_again(
    one_model, data_dir, tmp_path
):
    photo = (data_dir / "images" / "bee.jpeg").read_bytes()
    arguments = ("--model-repository", str(one_model), "--workers", "2")
    with serving(tmp_path / "log", *arguments, ready=2) as server:
        before = {pid: masks(pid) for pid in server.workers()}
        victim = server.workers()[0]
        lost, done, stop = [], [], threading.Event()

        def client():
            while not stop.is_set():
                try:
                    done.append(server.post(PATH, photo).status)
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client) for _ in range(4)]
            server.wait_until(lambda: len(done) > 20, "answering")
            os.kill(victim, signal.SIGKILL)
            server.wait_until(
                lambda: len(server.workers()) == 2 and victim not in server.workers(), "refilled"
            )
            server.wait_until(lambda: server.ready_workers() == 2, "ready again")
            answered = len(done)
            server.wait_until(lambda: len(done) > answered + 20, "answering")
            stop.set()
            for each in clients:
                each.result()
        assert set(done) == {200}
        assert len(lost) <= 4  # one connection a client: at most what was inside the dead worker
        (replacement,) = set(server.workers()) - set(before)
        assert masks(replacement) == before[victim]
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("bomb_30000x30000.png", 413, "max_pixels"),
        ("empty.jpg", 400, "empty"),
        ("header_only.png", 400, "header"),
        ("text.jpg", 415, "JPEG, PNG"),
        ("truncated.jpg", 400, "truncated"),
    ],
)
def test_bad_pictures_are_refused_and_the_worker_lives_on(exact_server, data_dir, name, status, words):
    workers = exact_server.workers()
    got = exact_server.post(PATH, (data_dir / "images" / "bad" / name).read_bytes())
    assert got.status == status
    assert words in got.json()["error"]
    assert exact_server.post(PATH, (data_dir / "images" / "bad" / "one_pixel.png").read_bytes()).status == 200
    assert exact_server.workers() == workers


@pytest.fixture(scope="module")
def small_server(one_model, tmp_path_factory):
    """A server with narrow limits: one thread, two may wait, 100 kB, 2 seconds."""
    log = tmp_path_factory.mktemp("small") / "log"
    arguments = [
        "--model-repository",
        str(one_model),
        "--workers",
        "1",
        "--threads",
        "1",
        "--queue-size",
        "2",
    ]
    arguments += ["--max-body-bytes", "100000", "--request-timeout-s", "2"]
    with serving(log, *arguments) as server:
        yield server


def test_a_body_over_the_limit_is_413_before_it_is_read(small_server):
    got = small_server.post(PATH, b"x" * 100_001)
    assert got.status == 413
    assert "100001" in got.json()["error"]
    assert "max_body_bytes" in got.json()["error"]


def test_a_large_upload_over_the_limit_sees_its_answer_and_no_reset(small_server):
    assert small_server.post(PATH, b"x" * 5_000_000).status == 413


def test_a_chunked_body_over_the_limit_is_413(small_server):
    got = small_server.request("POST", PATH, iter([b"x" * 50_000] * 3), {"Transfer-Encoding": "chunked"})
    assert got.status == 413


def test_a_chunked_picture_is_answered(small_server, data_dir):
    photo = (data_dir / "images" / "bee.jpeg").read_bytes()
    parts = [photo[at : at + 1000] for at in range(0, len(photo), 1000)]
    got = small_server.request("POST", PATH, iter(parts), {"Transfer-Encoding": "chunked"})
    assert got.json()["predictions"][0]["label"] == "bee"


def test_a_deadline_that_cannot_be_kept_is_refused_with_a_time_to_come_back(small_server, data_dir):
    photo = (data_dir / "images" / "mug_8mp.jpg").read_bytes()[
        :99_000
    ]  # cannot be decoded, and that takes no time
    good = (data_dir / "images" / "bee.jpeg").read_bytes()
    for _ in range(5):
        assert small_server.post(PATH, good).status == 200  # now the server knows what a request costs
    got = small_server.request("POST", PATH, photo, {"X-Request-Timeout-Ms": "1"})
    assert got.status == 503
    assert "X-Request-Timeout-Ms" in got.json()["error"]
    assert int(got.headers["Retry-After"]) >= 1
    assert small_server.request("POST", PATH, good, {"X-Request-Timeout-Ms": "5000"}).status == 200


def test_a_client_over_its_rate_is_429_and_others_are_not(one_model, data_dir, tmp_path):
    photo = (data_dir / "images" / "bee.jpeg").read_bytes()
    arguments = ["--model-repository", str(one_model), "--rate-limit", "0.001", "--rate-burst", "3"]
    with serving(tmp_path / "log", *arguments) as server:
        statuses = [server.post(PATH, photo) for _ in range(5)]
        assert [answer.status for answer in statuses] == [200, 200, 200, 429, 429]
        assert 100 <= int(statuses[-1].headers["Retry-After"]) <= 1000
        assert "rate_limit" in statuses[-1].json()["error"]
        assert server.request("POST", PATH, photo, {"X-API-Key": "another"}).status == 429
        assert server.get("/v2").status == 429
        assert server.get("/v2/health/live").status == 200
        address = ("127.0.0.2", 0)  # of another client
        other = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60, source_address=address)
        with closing(other):
            other.request("GET", "/metrics")
            metrics = other.getresponse().read().decode()
        assert 'cpuserve_refused_total{reason="rate"} 4' in metrics


def test_a_full_queue_is_503_with_a_time_to_come_back(small_server, data_dir):
    photo = (data_dir / "images" / "bee.jpeg").read_bytes()
    with ThreadPoolExecutor(24) as pool:
        got = list(pool.map(lambda _: small_server.post(PATH, photo), range(120)))
    refused = [answer for answer in got if answer.status == 503]
    assert {answer.status for answer in got} == {200, 503}
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert "queue_size" in refused[0].json()["error"]
    assert small_server.get("/v2/health/ready").status == 200


def test_a_slow_client_holds_no_thread_and_is_let_go(small_server, data_dir):
    with socket.create_connection(("127.0.0.1", small_server.port)) as slow:
        slow.sendall(
            b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"x" * 10
        )
        photo = (data_dir / "images" / "bee.jpeg").read_bytes()
        assert small_server.post(PATH, photo).status == 200  # with the one thread there is
        slow.settimeout(30)
        assert slow.recv(100) == b""


def test_unknown_model_version_and_bad_topk(exact_server, data_dir):
    photo = (data_dir / "images" / "bee.jpeg").read_bytes()
    for path, status, words in [
        ("/predictions/nothing", 404, "nothing"),
        (f"{PATH}/2", 404, "has no version 2; the versions served are: 1"),
        (f"{PATH}/x", 404, "'x'"),
        (f"{PATH}?topk=0", 400, "1 to 1001"),
        (f"{PATH}?topk=ten", 400, "ten"),
        ("/predictions/..%2f..%2fetc", 404, ".."),
    ]:
        got = exact_server.post(path, photo)
        assert got.status == status
        assert words in got.json()["error"]
