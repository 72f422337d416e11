"""gRPC with TLS: NVIDIA's client as it is, and certificates that are renewed while the server runs."""

from __future__ import annotations

import signal
import socket
import ssl

import numpy as np
import trustme
from tritonclient import grpc as triton
from tritonclient import http as triton_http

from tests.conftest import ROOT
from tests.servers import free_port, serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()


def shown(port):
    """The certificate that the server shows, as bytes."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secure:
        assert secure.selected_alpn_protocol() == "h2"
        return secure.getpeercert(binary_form=True)


def answer(module, port, **more):
    sent = module.InferInput("image", [1], "BYTES")
    sent.set_data_from_numpy(np.array([SEVEN], dtype=object))
    client = module.InferenceServerClient(f"localhost:{port}", **more)
    found = client.infer("digits", [sent]).as_numpy("probabilities").tobytes()
    client.close()
    return found


def put(authority, folder):
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    made.cert_chain_pems[0].write_to_path(folder / "certificate.pem")


def test_answers_are_those_of_http_and_certificates_are_renewed_by_sighup(digits, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    put(authority, tmp_path)
    port = free_port()
    words = (
        *("--model-repository", str(digits), "--workers", "1", "--grpc-port", str(port)),
        *("--grpc-certificate", str(tmp_path / "certificate.pem"), "--grpc-key", str(tmp_path / "key.pem")),
    )
    secure = {"ssl": True, "root_certificates": str(tmp_path / "ca.pem")}
    with serving(tmp_path / "log", *words) as server:
        assert f"gRPC at 127.0.0.1:{port}, with TLS" in server.text()
        assert answer(triton, port, **secure) == answer(triton_http, server.port)
        first = shown(port)

        put(authority, tmp_path)
        before = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.settle(1, gone=before)
        second = shown(port)
        assert second != first
        assert answer(triton, port, **secure)

        (tmp_path / "key.pem").write_text("no key")
        before = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.settle(1, gone=before)
        assert shown(port) == second
        assert "the certificate of gRPC stays as it was: grpc_key" in server.text()
        assert server.stop() == 0
