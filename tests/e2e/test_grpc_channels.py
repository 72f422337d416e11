"""Channels that reach too few workers are told; clients of the wrong kind get an error and do not hang."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import trustme
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT
from tests.made_videos import make_video
from tests.servers import free_port, serving

WAIT_S = 60
SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
SETTINGS = b"\0\0\0\4\0\0\0\0\0"  # the frame that a server of HTTP/2 begins with


@pytest.fixture(scope="module")
def encrypted(digits, tmp_path_factory):
    """A server with two workers and TLS for gRPC; ``authority`` is the file that clients trust."""
    folder, authority, port = tmp_path_factory.mktemp("tls"), trustme.CA(), free_port()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    made.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    words = (
        *("--model-repository", str(digits), "--workers", "2", "--grpc-port", str(port)),
        *("--grpc-certificate", str(folder / "certificate.pem"), "--grpc-key", str(folder / "key.pem")),
    )
    with serving(folder / "log", *words, ready=2) as server:
        server.grpc_port, server.authority = port, folder / "ca.pem"
        yield server


def infer(address, **more):
    sent = triton.InferInput("image", [1], "BYTES")
    sent.set_data_from_numpy(np.array([SEVEN], dtype=object))
    with triton.InferenceServerClient(address, **more) as client:
        return client.infer("digits", [sent], client_timeout=WAIT_S).as_numpy("probabilities").argmax()


def test_the_log_and_placement_tell_of_workers_without_a_channel(encrypted):
    secure = {"ssl": True, "root_certificates": str(encrypted.authority)}
    with triton.InferenceServerClient(f"localhost:{encrypted.grpc_port}", **secure) as client:
        told = "gRPC: 1 channels were used in the last minute, 1 of 2 workers have none"
        encrypted.wait_until(lambda: client.get_server_metadata() and told in encrypted.text(), "told")
        assert f"{told}: a channel lives in one worker: let clients open several" in encrypted.text()
        placement = encrypted.get("/v2/placement").json()
        assert sorted(one["grpc_channels"] for one in placement["workers"]) == [0, 1]
        assert told in json.dumps(placement)
    run = subprocess.run(
        [sys.executable, "-m", "cpuserve", "doctor", "--pid", str(encrypted.process.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 of 2 workers have none" in " ".join(run.stdout.split()), run.stdout + run.stderr


def test_a_client_without_tls_gets_an_error_where_there_is_tls(encrypted):
    with pytest.raises(InferenceServerException) as caught:
        infer(f"localhost:{encrypted.grpc_port}")
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert (
        infer(f"localhost:{encrypted.grpc_port}", ssl=True, root_certificates=str(encrypted.authority)) == 7
    )


@contextmanager
def listening(first):
    """A server that takes connections, sends their first bytes, and then nothing."""
    taken = []

    def take(listener):
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return
            taken[-1].sendall(first)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=take, args=(listener,))
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(WAIT_S)
            for one in taken:
                one.close()


def test_replicas_of_the_wrong_kind_and_ones_that_hang_end_a_run_with_their_names(encrypted, tmp_path):
    video = make_video(tmp_path / "video.avi", frames=3)
    with listening(b"") as silent, listening(SETTINGS) as begun:
        waited, at_once = "no replica of digits was usable for 0.5 s", "no replica serves digits: "
        plain, tls = f"127.0.0.1:{encrypted.port}", f"127.0.0.1:{encrypted.grpc_port}"
        urls = {
            f"grpcs://{silent}": (waited, "no answer within 10 s"),
            f"grpc://{begun}": (waited, "no answer within 10 s"),
            f"grpc://{plain}": (at_once, f"it speaks no gRPC: give it as http://{plain}"),
            f"grpcs://{plain}": (at_once, f"it speaks no TLS: give it as grpc://{plain}"),
            f"grpc://{tls}": (waited, "UNAVAILABLE"),
        }
        words = ("video", "infer", str(video), "--model", "digits", "--replica-wait", "0.5")
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", "cpuserve", *words, "--replicas", url, "--output", f"{number}.jsonl"],
                cwd=tmp_path,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number, url in enumerate(urls)
        ]
        ends = [" ".join(run.communicate(timeout=2 * WAIT_S)[1].split()) for run in runs]
        for run, said, (url, (end, reason)) in zip(runs, ends, urls.items(), strict=True):
            assert run.returncode == 1, said
            assert end in said, said
            assert f"{url}: {reason}" in said, said
