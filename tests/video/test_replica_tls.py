"""Replicas over TLS: a certificate that is trusted is used, another one is refused and named."""

from __future__ import annotations

import ssl
import subprocess
import sys

import pytest
import trustme

from cpuserve.errors import CpuserveError
from cpuserve.video.replicas import Replicas
from tests.conftest import ROOT
from tests.video.fake_replica import fake_replicas

ASK = """
import sys
import numpy as np
from cpuserve.video.replicas import Replicas
with Replicas([sys.argv[1]], "colours", payload="raw", wait_s=5) as model:
    print(model.answer(np.full((6, 8, 3), 2, np.uint8), 64, 48)["sum"])
"""


@pytest.fixture
def encrypted(tmp_path):
    """A replica with a certificate, and the file of the authority that issued it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with fake_replicas(1, context) as (fake,):
        yield fake, tmp_path / "ca.pem"


def test_an_unknown_certificate_is_refused(encrypted):
    with pytest.raises(CpuserveError, match="certificate verify failed"):
        Replicas([encrypted[0].url], "colours", wait_s=0.1)


def test_an_authority_of_ones_own_is_trusted_by_the_usual_variable(encrypted, monkeypatch):
    fake, authority = encrypted
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    command = [sys.executable, "-c", ASK, fake.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{2 * 6 * 8 * 3}\n"), done.stderr
