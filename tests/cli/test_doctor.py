"""`cpuserve doctor`: which server it looks at, what it prints, how it ends."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cpuserve.cli import main
from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.machine.diagnosis import diagnose
from cpuserve.machine.placement import Seat, SeatPlan
from cpuserve.machine.server_status import ServerStatus, WorkerStatus, describe_server
from cpuserve.serving import find_servers as running
from cpuserve.settings import Settings
from tests.machine import trees
from tests.machine.test_seat_checks import heap, process

SEATS = (Seat(0, 0, (0, 1, 4, 5), 2, 0), Seat(1, 1, (2, 3, 6, 7), 2, 1))


def server(pid: int, workers: tuple[int, int] = (100, 200)) -> ServerStatus:
    content = describe_server(
        SeatPlan(SEATS, ("a note",)), Settings(host="host", port=pid), pid=pid, start=ThrottlingSample(0, {})
    )
    return ServerStatus.from_description(
        content, pid, [WorkerStatus(seat, pid, "ready") for seat, pid in enumerate(workers)]
    )


@pytest.fixture
def reports(tmp_path):
    """Reports of one server on two sockets: as planned, and with both workers on the same CPUs."""
    tree = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=2, smt=2).status("0-7", "0-1").v2("/")
    tree.put("proc/cpuinfo", "processor : 0\nmodel name : A CPU\nflags : avx2 avx_vnni")
    tree.put("proc/90/status", "Name:\tcpuserve\nCpus_allowed_list:\t0-7\nMems_allowed_list:\t0-1")
    process(tree, 100, ["0-1,4-5"] * 3, pages=heap(N0=64))
    process(tree, 200, ["2-3,6-7"] * 3, pages=heap(N1=64))
    good = diagnose(server(90), root=tmp_path)
    process(tree, 200, ["0-1,4-5"] * 3, pages=heap(N1=64))
    return good, diagnose(server(90), root=tmp_path)


@pytest.fixture
def doctor(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as end:
            main(["doctor", *words])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


@contextmanager
def answering(status: int, body: bytes, asked: list[str]):
    """An HTTP server that answers everything so; the address it has."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(f"{self.client_address[1]} {self.path} {self.headers['Authorization']}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


def test_a_server_is_asked_twice_on_one_connection_and_its_report_is_printed(doctor, reports):
    asked = []
    with answering(200, json.dumps(reports[0]).encode(), asked) as url:
        code, out, _ = doctor("--url", f"{url}/", "--window", "0", "--json", "--api-key", "k")
        assert (code, json.loads(out)) == (0, json.loads(json.dumps(reports[0])))
    connection = asked[0].split()[0]
    assert asked == [f"{connection} /v2/placement Bearer k"] * 2


def test_the_page(doctor, reports, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with answering(200, json.dumps(reports[0]).encode(), []) as url:
        code, out, _ = doctor("--url", url, "--window", "0")
    assert code == 0
    lines = [line.rstrip() for line in out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "server   pid 90 at host:90, 2 seats, 4 compute threads" in lines
    assert "  node 1: 2 cores, CPUs 2-3,6-7, 64.0 GiB, 21 from 0" in lines
    assert "    seat 1, 2 threads | 2+6 3+7" in lines
    assert "  green  seat 0 (pid 100): all 3 threads stay on CPUs 0-1,4-5" in lines
    assert "  1     200  ready  3        2-3,6-7     4-6" in lines
    assert "  green  plan: a note" in lines
    assert lines[-1].endswith(" 0 red")


def test_red_ends_with_1_and_says_what_to_do(doctor, reports):
    with answering(200, json.dumps(reports[1]).encode(), []) as url:
        code, out, _ = doctor("--url", url, "--window", "0", "--threads")
    assert code == 1
    assert "red    CPUs 0-1,4-5 are shared by seats 0 (pid 100), 1 (pid 200)" in out
    assert "-> two workers on one CPU slow each other many times" in out
    assert "201 python" in out


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"", "answered 404"),
        (401, b"", "--api-key"),
        (200, b"<html>", "no report"),
        (200, b"[1]", "is it a cpuserve server?"),
    ],
)
def test_what_is_no_cpuserve_server_is_refused(doctor, status, body, said):
    with answering(status, body, []) as url:
        code, _, err = doctor("--url", url, "--window", "0")
    assert code == 1
    assert said in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--url", "http://127.0.0.1:1"], 1, "does not answer"),
        (["--url", "ftp://x"], 2, "http://HOST:PORT"),
        (["--url", "http://x:port"], 2, "http://HOST:PORT"),
        (["--url", "http://x", "--pid", "1"], 2, "leave one out"),
        (["--pid", "1"], 2, "--pid 1"),
        (["--window", "-1"], 2, "--window"),
        (["more"], 2, "more"),
    ],
)
def test_wrong_words(doctor, monkeypatch, words, code, said):
    monkeypatch.setattr(running, "find_servers", lambda: (server(90),))
    got, _, err = doctor(*words)
    assert got == code
    assert said in err


def test_without_a_server_it_says_so_and_shows_the_machine(doctor, monkeypatch):
    monkeypatch.setattr(running, "find_servers", lambda: ())
    code, out, _ = doctor()
    assert code == 0
    assert "no server of this user runs here" in " ".join(out.split())
    assert "node 0" in out


def test_of_several_servers_one_is_to_be_named(doctor, monkeypatch):
    monkeypatch.setattr(running, "find_servers", lambda: (server(90), server(91, (300, 400))))
    code, _, err = doctor()
    assert code == 2
    assert "90 (host:90), 91 (host:91)" in err
    for pid in ("91", "300"):  # the arbiter or one of its workers
        code, out, _ = doctor("--pid", pid, "--window", "0", "--json")
        assert code == 1
        assert json.loads(out)["server"]["pid"] == 91
        assert "another server (pid 90, host:90) also has CPUs 0-7" in out
