"""API keys, CORS and the check of every request by its head: key, origin, rate."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import stat
from base64 import b64decode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from cpuserve.errors import ForeignOrigin, Unauthorized, UsageError
from cpuserve.protocols.call import Call, Reply
from cpuserve.protocols.rate_limit import RateLimit
from cpuserve.protocols.trusted_proxies import TrustedProxies
from cpuserve.settings import Settings

__all__ = ["Access", "AllowedOrigins", "ApiKeys", "Gate", "client_of"]

_log = logging.getLogger("cpuserve.access")
_EXPOSED = "Inference-Header-Content-Length, Retry-After, Server-Timing, X-Cpuserve-Trace"
_PREFLIGHT_S = 600
_HEALTH = frozenset(("/v2/health/live", "/v2/health/ready", "/ping"))


class ApiKeys:
    """The API keys; only their hashes are kept.

    Args:
        keys: at least one.
        for_metrics: whether /metrics needs a key too.
    """

    def __init__(self, keys: Iterable[str], *, for_metrics: bool = False) -> None:
        self._hashes = [_hash(key.encode()) for key in keys]
        self._for_metrics = for_metrics

    @classmethod
    def read(cls, file: Path, *, for_metrics: bool = False) -> ApiKeys:
        """Read the keys of a file, one per line; empty lines and those that begin with # are skipped.

        Raises:
            UsageError: it cannot be read, or holds no key.
        """
        try:
            mode, text = file.stat().st_mode, file.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise UsageError(f"api_key_file {file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise UsageError(f"api_key_file {file} is not UTF-8 text") from None
        if mode & stat.S_IROTH:
            _log.warning("api_key_file %s can be read by every user: chmod o-r it", file)
        lines = [line.strip() for line in text.splitlines()]
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UsageError(f"api_key_file {file} holds no key: write one a line")
        return cls(keys, for_metrics=for_metrics)

    def check(self, call: Call) -> str | None:
        """The valid key of a request; None when it has none and needs none.

        Raises:
            Unauthorized: it needs one.
        """
        for key in _given(call):
            if self._known(key):
                return key.decode("latin-1")
        if self._open(call):
            return None
        raise Unauthorized("an API key is needed: send Authorization: Bearer KEY, or X-API-Key: KEY")

    def _open(self, call: Call) -> bool:
        """Whether a request needs no key: health, the page itself, metrics by default."""
        if call.method not in ("GET", "HEAD"):
            return False
        match call.path.split("/"):
            case ["", "ping"] | ["", "v2", "health", _] | ["", ""] | ["", "page", _]:
                return True
            case ["", "v2", "models", _, "ready"] | ["", "v2", "models", _, "versions", _, "ready"]:
                return True
            case ["", "metrics"]:
                return not self._for_metrics
        return False

    def _known(self, key: bytes) -> bool:
        # all of them, each in constant time: how long it takes says nothing of what was right
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(known, _hash(key))
        return found


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _given(call: Call) -> list[bytes]:
    found = []
    scheme, _, credentials = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found.append(credentials.strip())
    if scheme.lower() == "basic":  # of clients that can be given an address only: http://any:KEY@host
        with suppress(ValueError):  # no base64: no key
            _, _, password = b64decode(credentials, validate=True).decode("latin-1").partition(":")
            found.append(password)
    if "x-api-key" in call.headers:
        found.append(call.headers["x-api-key"].strip())
    return [key.encode("latin-1") for key in found]


class AllowedOrigins:
    """The pages whose scripts may read answers (CORS).

    Args:
        origins: such as https://example.org; "*" for all.
        methods: they may use.
        headers: they may send; "*" for all but those that browsers restrict.
    """

    def __init__(self, origins: Sequence[str], methods: Sequence[str], headers: Sequence[str]) -> None:
        self._all = "*" in origins
        self._origins = frozenset(origin.rstrip("/") for origin in origins)
        self._preflight = [
            ("Access-Control-Allow-Methods", ", ".join(methods)),
            ("Access-Control-Allow-Headers", ", ".join(headers)),
            ("Access-Control-Max-Age", str(_PREFLIGHT_S)),
        ]

    def headers(self, call: Call) -> list[tuple[str, str]]:
        """The CORS headers of an answer."""
        if self._all:
            allowed = "*"
        else:
            allowed = call.headers.get("origin", "")
            if allowed not in self._origins:
                return [("Vary", "Origin")]
        found = [("Access-Control-Allow-Origin", allowed), ("Access-Control-Expose-Headers", _EXPOSED)]
        return found if self._all else [*found, ("Vary", "Origin")]

    def check(self, call: Call) -> None:
        """Let a request change the server unless a page of another site sends it.

        Browsers add the page's origin; other clients send none.

        Raises:
            ForeignOrigin: the page is neither this server's own nor an allowed one.
        """
        origin = call.headers.get("origin")
        own = call.headers.get("host", "").lower()
        if origin is None or self._all or origin in self._origins or urlsplit(origin).netloc.lower() == own:
            return
        raise ForeignOrigin(f"a page of {origin[:200]} may not change this server (setting allowed_origins)")

    def preflight(self, call: Call) -> Reply | None:
        """The answer to a browser's question before a request; None for any other request."""
        if (
            call.method != "OPTIONS"
            or "origin" not in call.headers
            or "access-control-request-method" not in call.headers
        ):
            return None
        may = self._all or call.headers["origin"] in self._origins
        return Reply(204, b"", self._preflight.copy() if may else [])


_OWN_PAGES = AllowedOrigins((), (), ())


class Access:
    """What every request needs, and what browsers are told.

    Args:
        keys: None lets in requests without a key.
        origins: None sends no CORS headers.
    """

    def __init__(self, keys: ApiKeys | None, origins: AllowedOrigins | None) -> None:
        self._keys = keys
        self._origins = origins

    @classmethod
    def of(cls, settings: Settings) -> Access | None:
        """The access rules in the settings; None when there are none.

        Raises:
            UsageError: the key file cannot be read.
        """
        keys = origins = None
        if settings.api_key_file:
            keys = ApiKeys.read(Path(settings.api_key_file), for_metrics=settings.api_key_for_metrics)
        if settings.allowed_origins:
            lists = (settings.allowed_origins, settings.allowed_methods, settings.allowed_headers)
            origins = AllowedOrigins(*(_words(text) for text in lists))
        return cls(keys, origins) if keys or origins else None

    def key(self, call: Call) -> str | None:
        """The valid key of a request; None when it needs none, as a browser's preflight.

        Raises:
            Unauthorized: it needs one.
        """
        if self._keys is None or self.preflight(call) is not None:
            return None
        return self._keys.check(call)

    def preflight(self, call: Call) -> Reply | None:
        """The answer to a browser's question before a request; None for any other request."""
        return None if self._origins is None else self._origins.preflight(call)

    def check_origin(self, call: Call) -> None:
        """Let a request change the server.

        Raises:
            ForeignOrigin: see `AllowedOrigins.check`.
        """
        (self._origins or _OWN_PAGES).check(call)

    def headers(self, call: Call) -> list[tuple[str, str]]:
        """The CORS headers of an answer; none where no origins are set."""
        return [] if self._origins is None else self._origins.headers(call)


class Gate:
    """Checks requests by their heads, before their bodies are read.

    Args:
        access: who may ask; None lets everybody in.
        rate_limit: how often one client may.
        proxies: whose word on where a request comes from counts; None for nobody's.

    Attributes:
        needed: whether there are keys, origins, a limit or proxies.
    """

    def __init__(
        self, access: Access | None, rate_limit: RateLimit, proxies: TrustedProxies | None = None
    ) -> None:
        self._access = access
        self._proxies = proxies
        self._rate_limit = rate_limit
        self._limits = rate_limit.per_second > 0
        self.needed = access is not None or proxies is not None or self._limits

    def check(self, call: Call) -> None:
        """Let a request in; write into its call who it counts against and what browsers are told.

        The client is its API key where that is valid, else its address: whoever sends another wrong key
        each time stays the same client. Orchestrators' questions for health are not counted.

        Raises:
            Unauthorized: it needs a key and has no valid one.
            RateLimited: its client sends more requests than it may.
        """
        if self._proxies is not None:
            call.address = self._proxies.client(call)
            call.client = client_of(call.address)
        if self._access is not None:
            call.answer_headers = self._access.headers(call)
            try:
                key = self._access.key(call)
            except Unauthorized:
                self._rate_limit.take(call.client)
                raise
            if key is not None:
                call.client = f"key {key}"
        if self._limits and not _asks_health(call):
            self._rate_limit.take(call.client)


@lru_cache(maxsize=1024)
def client_of(address: str) -> str:
    """The client that requests from an address count against: the IPv4 address, or the IPv6 /64 network.

    One user may have all addresses of such a network.
    """
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def _asks_health(call: Call) -> bool:
    return call.path in _HEALTH and call.method in ("GET", "HEAD")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
