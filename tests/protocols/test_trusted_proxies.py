"""What proxies say of the client counts only where they are trusted."""

from __future__ import annotations

import pytest

from cpuserve.errors import UsageError
from cpuserve.protocols.access import Gate
from cpuserve.protocols.call import Call
from cpuserve.protocols.rate_limit import RateLimit
from cpuserve.protocols.trusted_proxies import TrustedProxies

PROXIES = TrustedProxies("10.0.0.0/8, 192.168.1.7, ::1")


@pytest.mark.parametrize(
    ("address", "header", "client"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),  # the client wrote the first itself
        ("10.0.0.1", "203.0.113.9, 10.3.3.3, 192.168.1.7", "203.0.113.9"),
        ("10.0.0.1", "10.9.9.9", "10.9.9.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("::1", "[2001:db8::5]:80", "2001:db8::5"),
        ("::1", "2001:db8::5", "2001:db8::5"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("203.0.113.1", "1.2.3.4", "203.0.113.1"),  # nobody trusts it
        ("", "1.2.3.4", ""),
        ("10.0.0.1", ",".join(["1.2.3.4"] + ["10.0.0.2"] * 1000), "10.0.0.2"),
    ],
)
def test_the_client_is_the_last_address_that_a_trusted_proxy_names(address, header, client):
    assert PROXIES.client(Call("GET", "/", headers={"x-forwarded-for": header}, address=address)) == client


def test_the_limit_counts_clients_behind_a_proxy_apart_and_liars_as_themselves():
    gate = Gate(None, RateLimit(5.0, 1), PROXIES)

    def ask(address, header):
        call = Call("GET", "/v2", headers={"x-forwarded-for": header}, address=address, client=address)
        gate.check(call)
        return call.client

    assert ask("10.0.0.1", "203.0.113.1") == "203.0.113.1"
    assert ask("10.0.0.1", "203.0.113.2") == "203.0.113.2"
    assert ask("203.0.113.3", "203.0.113.4") == "203.0.113.3"
    with pytest.raises(Exception, match="rate_limit"):
        ask("203.0.113.3", "203.0.113.5")


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.1/33", "10.0.0.1;10.0.0.2"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match=r"trusted_proxies: .*10\.0\.0\.0/8"):
        TrustedProxies(text)
