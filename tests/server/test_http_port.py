"""Whether the server can listen is known, and said in one line, before anything starts."""

from __future__ import annotations

import os
import socket

import pytest

from cpuserve.errors import UsageError
from cpuserve.machine.bind_address import bind_address
from cpuserve.server.http_port import check_port
from cpuserve.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_free_port_is_taken_and_one_in_use_refused(host):
    family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as other:
        other.bind(address)
        port = other.getsockname()[1]
        other.listen()
        with pytest.raises(UsageError, match=f"port {port} of {host} is in use.*--port"):
            check_port(Settings(host=host, port=port))
        check_port(Settings(host=host, port=port), {"LISTEN_FDS": "1"})  # it is handed over
    check_port(Settings(host=host, port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused_by_name(host):
    with pytest.raises(UsageError, match=f"{host} is no address of this machine \\(--host\\)"):
        check_port(Settings(host=host, port=0))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every port")
def test_a_port_that_needs_rights_is_refused():
    with pytest.raises(UsageError, match=r"port 1 needs rights.*--port"):
        check_port(Settings(port=1))


def test_an_address_of_ipv6_stands_in_brackets():
    assert [bind_address(host, 8000) for host in ("0.0.0.0", "::", "::1")] == [
        *("0.0.0.0:8000", "[::]:8000", "[::1]:8000")
    ]
