"""Proxies that are believed when they say on whose behalf they ask."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from cpuserve.errors import UsageError
from cpuserve.protocols.call import Call

__all__ = ["TrustedProxies"]

_MOST_HOPS = 16


class TrustedProxies:
    """The addresses whose ``X-Forwarded-For`` counts.

    Args:
        text: addresses and networks with commas between, such as "10.0.0.5,192.168.0.0/16,::1".

    Raises:
        UsageError: one of them is neither.
    """

    def __init__(self, text: str) -> None:
        words = [word.strip() for word in text.split(",") if word.strip()]
        try:
            self._networks = [ipaddress.ip_network(word, strict=False) for word in words]
        except ValueError as error:
            raise UsageError(f"trusted_proxies: {error}; write addresses or networks, 10.0.0.0/8") from None
        self._trusts = lru_cache(maxsize=1024)(self._in_a_network)

    def client(self, call: Call) -> str:
        """The address that a request comes from: behind trusted proxies, the last one that they name.

        What stands further left in the header was written by the client itself, or by a proxy that is not
        trusted, and may be anything.
        """
        address = call.address
        hops = call.headers.get("x-forwarded-for", "").split(",")[-_MOST_HOPS:]
        while hops and address and self._trusts(address):
            hop = _address_in(hops.pop())
            if hop is None:
                break
            address = hop
        return address

    def _in_a_network(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        mapped = getattr(parsed, "ipv4_mapped", None)  # how a socket of both families names one of IPv4
        return any((mapped or parsed) in network for network in self._networks)


def _address_in(word: str) -> str | None:
    """The address in an entry of the header, where some proxies add a port; None where there is none."""
    text = word.strip()
    for found in (text, text.rpartition(":")[0]):
        try:
            return str(ipaddress.ip_address(found.strip("[]")))
        except ValueError:
            continue
    return None
