"""gRPC encrypted by a certificate and its key: files that do not fit are refused, the others are used."""

from __future__ import annotations

import os
import subprocess
import sys

import grpc
import pytest
import trustme

from cpuserve.errors import UsageError
from cpuserve.grpc.tls import Tls
from cpuserve.settings import Settings
from tests.grpc.running import WAIT_S, full_name, serving_grpc

LIVE = full_name("ServerLive")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    """Paths of a certificate with its key, of another one, and of the authority of clients."""
    written = {}
    for name in ("server", "other"):
        made = authority.issue_cert("localhost", "127.0.0.1")
        made.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        (tmp_path / f"{name}.key").chmod(0o600)
        for pem in made.cert_chain_pems:
            pem.write_to_path(tmp_path / f"{name}.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for file in tmp_path.iterdir():
        written[file.name] = str(file)
    return written


def tls_of(certificate="", key="", client_ca="", port=9000):
    return Tls.of(
        Settings(grpc_port=port, grpc_certificate=certificate, grpc_key=key, grpc_client_ca=client_ca)
    )


def test_without_files_there_is_none():
    assert tls_of() is None
    assert tls_of(port=0) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"certificate": "server.pem"}, "grpc_certificate needs grpc_key too"),
        ({"key": "server.key"}, "grpc_key needs grpc_certificate too"),
        ({"client_ca": "ca.pem"}, "grpc_client_ca needs grpc_certificate"),
        ({"certificate": "server.pem", "key": "server.key", "port": 0}, "need a grpc_port"),
        (
            {"certificate": "none.pem", "key": "server.key"},
            "grpc_certificate .*none.pem cannot be read: No such",
        ),
        (
            {"certificate": "server.pem", "key": "none.key"},
            "grpc_key .*none.key cannot be read: No such file",
        ),
        (
            {"certificate": "folder", "key": "server.key"},
            "grpc_certificate .*folder cannot be read: Is a dir",
        ),
        (
            {"certificate": "server.pem", "key": "other.key"},
            "other.key is not the key of the first certificate",
        ),
        ({"certificate": "server.key", "key": "server.pem"}, "cannot be used together: both must be PEM"),
        ({"certificate": "text", "key": "server.key"}, "grpc_certificate .*text is no PEM file"),
        ({"certificate": "empty", "key": "server.key"}, "grpc_certificate .*empty is no PEM file"),
        ({"certificate": "cut.pem", "key": "server.key"}, "cannot be used together: both must be PEM"),
        ({"certificate": "large", "key": "server.key"}, "large is larger than 1048576 bytes"),
        ({"certificate": "server.pem", "key": "locked.key"}, "grpc_key .*locked.key has a password"),
        (
            {"certificate": "server.pem", "key": "server.key", "client_ca": "server.key"},
            "grpc_client_ca .*server.key is no PEM file of certificates",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(authority, files, tmp_path, given, words):
    from cryptography.hazmat.primitives import serialization

    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_text("")
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    whole = (tmp_path / "server.pem").read_bytes()
    (tmp_path / "cut.pem").write_bytes(whole[: len(whole) // 3])
    key = serialization.load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "locked.key").write_bytes(key.private_bytes(*form, secret))
    named = {name: str(tmp_path / value) if name != "port" else value for name, value in given.items()}
    with pytest.raises(UsageError, match=words) as caught:
        tls_of(**named)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads every file")
def test_a_key_that_may_not_be_read_is_refused(files, tmp_path):
    (tmp_path / "server.key").chmod(0)
    with pytest.raises(UsageError, match=r"grpc_key .*server.key cannot be read: Permission denied"):
        tls_of(files["server.pem"], files["server.key"])


def test_a_key_that_everybody_can_read_is_told_of(files, tmp_path, caplog):
    assert tls_of(files["server.pem"], files["server.key"])
    assert not caplog.records
    (tmp_path / "server.key").chmod(0o644)
    assert "PRIVATE" not in repr(tls_of(files["server.pem"], files["server.key"]))
    assert "server.key can be read by every user: chmod o-r it" in caplog.text


def live(address, credentials):
    with grpc.secure_channel(address, credentials) as channel:
        return channel.unary_unary(LIVE)(b"", timeout=5)


def trusting(authority, **more):
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes(), **more)


def test_who_trusts_the_authority_is_answered_and_plain_text_is_not(authority, files):
    with serving_grpc(tls=tls_of(files["server.pem"], files["server.key"])) as one:
        assert live(one.address, trusting(authority)) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            live(one.address, trusting(trustme.CA()))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        with grpc.insecure_channel(one.address) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(LIVE)(b"", timeout=5)
        assert live(one.address, trusting(authority)) == b"\x08\x01"


def test_clients_must_show_a_certificate_where_an_authority_is_named(authority, files):
    def client_of(ca):
        made = ca.issue_cert("client")
        pair = {
            "private_key": made.private_key_pem.bytes(),
            "certificate_chain": b"".join(pem.bytes() for pem in made.cert_chain_pems),
        }
        return trusting(authority, **pair)

    with serving_grpc(tls=tls_of(files["server.pem"], files["server.key"], files["ca.pem"])) as one:
        assert live(one.address, client_of(authority)) == b"\x08\x01"
        for credentials in (trusting(authority), client_of(trustme.CA())):
            with pytest.raises(grpc.RpcError) as caught:
                live(one.address, credentials)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_the_command_ends_at_once_with_the_reason(files, tmp_path):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "cpuserve", "serve", "--grpc-port", "1", "--port", "0"),
            *("--grpc-certificate", files["server.pem"], "--grpc-key", files["other.key"]),
        ],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.strip().splitlines()[-1] == (
        f"cpuserve: error: grpc_key {files['other.key']} is not the key of the first certificate in "
        f"grpc_certificate {files['server.pem']}"
    )
