"""Clients that mean harm: names that are paths, requests that never end, connections that only wait."""

from __future__ import annotations

import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from cpuserve.cli import main
from cpuserve.http.app import routes
from tests.conftest import ROOT
from tests.e2e.test_access import Anything
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
PATH = "/predictions/digits"
NAMES = [
    *("..", ".", "../outside/secret", "..%2foutside%2fsecret", "%2e%2e%2foutside%2fsecret", "..%5coutside"),
    *("digits/../../outside/secret", "..%252foutside%252fsecret", "digits%2f..%2f..%2foutside%2fsecret"),
    *(
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "%00",
        "digits%00",
        "digits%00.xml",
        "digits%0a",
        "digits%20",
        "%20digits",
    ),
    *(
        ".%2fdigits",
        "DIGITS",
        "%c3%bc",
        "%ff%fe",
        "%ef%bd%84igits",
        "%e2%80%ae",
        "%25",
        "%",
        "%zz",
    ),
    *("..;", "~", "~root", "file:%2f%2f%2fetc", "*", "a" * 7000, "%2e" * 2000, "%2e%2e%2f" * 800),
]
VERSIONS = [
    "..",
    "..%2f1",
    "1%2f..%2f1",
    "01",
    "+1",
    "-1",
    "1.0",
    "1%00",
    "%ef%bc%91",
    "%c2%b2",
    "9" * 5000,
    "1%20",
]


@pytest.fixture(scope="module")
def repository(digits, tmp_path_factory):
    """A repository with a model beside it that nobody may reach."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(digits, root / "models")
    shutil.copytree(digits / "digits", root / "outside" / "secret")
    return root / "models"


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    arguments = ["--model-repository", str(repository), "--workers", "1", "--threads", "1"]
    log = tmp_path_factory.mktemp("hostile-log") / "log"
    with serving(log, *arguments, "--request-timeout-s", "1") as server:
        yield server


def ask(server, method, path, body=b""):
    """A request as it stands, without a client that mends or refuses it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        sock.sendall(head.encode() + body)
        answer = b""
        while part := sock.recv(1 << 16):
            answer += part
    return int(answer[9:12]), answer.partition(b"\r\n\r\n")[2]


def test_no_model_name_and_no_version_leads_out_of_the_repository(server, repository):
    hostile = [
        (route, route.rule.replace("<model>", name).replace("<version>", "1"))
        for route in routes(Anything())
        if "<model>" in route.rule
        for name in NAMES
    ] + [
        (route, route.rule.replace("<model>", "digits").replace("<version>", version))
        for route in routes(Anything())
        if "<version>" in route.rule
        for version in VERSIONS
    ]
    assert len(hostile) > 500
    for route, path in hostile:
        body = SEVEN if route.rule.startswith("/predictions") else b"{}" if route.method == "POST" else b""
        status, answer = ask(server, route.method, path, body)
        assert status in (400, 404, 405, 414), (path[:100], status, answer[:300])
        assert b"root:" not in answer
        assert str(repository.parent).encode() not in answer, (path[:100], answer[:300])
    assert b"secret" not in server.request("POST", "/v2/repository/index", b"{}").body
    assert ask(server, "POST", PATH, SEVEN)[0] == 200
    assert "Traceback" not in server.text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["predict", "../outside/secret", "x.png"], 1, "no model at ../outside/secret"),
        (["predict", "..", "x.png"], 1, "no model"),
        (["predict", "../outside", "x.png"], 1, "no model at ../outside"),
        (["predict", "digits/../1", "x.png"], 2, "version is a number"),
        (["predict", "digits/\xb2", "x.png"], 2, "version is a number"),
        (["predict", f"digits/{'9' * 5000}", "x.png"], 2, "version is a number"),
        (["pull", "../../etc/passwd"], 2, "../../etc/passwd"),
        (["pull", "a" * 10_000], 2, "catalogue"),
    ],
)
def test_names_on_the_command_line_lead_nowhere_either(repository, capsys, words, code, said):
    with pytest.raises(SystemExit) as end:
        main([*words, "--model-repository", str(repository)])
    assert end.value.code == code
    assert said in capsys.readouterr().err


def until_closed(sock, pieces):
    """Send piece after piece until the server hangs up; what it said."""
    sock.settimeout(0.05)
    heard = b""
    for piece in pieces:
        try:
            sock.sendall(piece)
            part = sock.recv(1 << 16)
        except TimeoutError:
            continue
        except ConnectionError:
            return heard
        if not part:
            return heard
        heard += part
    pytest.fail("the server waited for all of it")


def test_clients_that_never_finish_are_let_go_while_others_are_served(server):
    begin = f"POST {PATH} HTTP/1.1\r\nHost: h\r\n".encode()
    header_by_header = (begin, *(b"X-%d: y\r\n" % number for number in range(90)))
    bytewise = (begin + b"Content-Length: 5000\r\n\r\n", *(b"x" for _ in range(400)))
    chunkwise = (begin + b"Transfer-Encoding: chunked\r\n\r\n", *(b"1\r\nx\r\n" for _ in range(400)))
    silent = (begin[:9], *(b"" for _ in range(400)))

    def client(pieces):
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            return until_closed(slow, pieces)

    with ThreadPoolExecutor(12) as pool:
        heard = [
            pool.submit(client, pieces)
            for pieces in (header_by_header, bytewise, chunkwise, silent)
            for _ in "123"
        ]
        while not all(each.done() for each in heard):
            assert ask(server, "POST", PATH, SEVEN)[0] == 200
        assert {each.result() for each in heard} == {b""}


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_two_hundred_idle_connections_hold_up_nobody_and_are_given_back(server):
    (worker,) = server.workers()
    server.wait_until(lambda: ask(server, "POST", PATH, SEVEN)[0] == 200, "answering")
    before = descriptors(worker)
    with ExitStack() as stack:
        idle = []
        for number in range(200):
            idle.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port))))
            if number % 2:
                idle[-1].sendall(
                    b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\nx"
                )
        for _ in range(20):
            assert ask(server, "POST", PATH, SEVEN)[0] == 200
        assert server.get("/v2/health/ready").status == 200
        server.wait_until(lambda: descriptors(worker) <= before + 1, "rid of the idle ones")
        for sock in idle:
            sock.settimeout(30)
            assert sock.recv(10) == b""
    assert ask(server, "POST", PATH, SEVEN)[0] == 200
