"""Small attacks by one client on a server of this machine.

Run as ``python -m benchmarks.attack_kinds PORT MODEL NAME SECONDS``.
"""

from __future__ import annotations

import argparse
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

__all__ = ["ATTACKS", "Aim", "Attack", "animated_png", "flat_png", "main", "many_scans_jpeg"]

_ADDRESS = "127.0.0.2"  # another than the polite client's
_PATIENCE_S = 5.0  # an attacker waits no longer for an answer, so that it can attack again
_NUMBER_TOO_LARGE = b"18446744073709551615"


@dataclass(frozen=True)
class Aim:
    """The server that is attacked.

    Attributes:
        port: of a server on this machine.
        model: that takes pictures.
        until: set when the attack is over.
    """

    port: int
    model: str
    until: threading.Event

    def connect(self) -> socket.socket:
        """Open a connection.

        Raises:
            OSError: the server takes none.
        """
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=_PATIENCE_S, source_address=(_ADDRESS, 0)
        )

    def ask(self, head: bytes, *parts: bytes) -> None:
        """Send a request in parts on a connection of its own, and wait for the answer's first bytes."""
        with suppress(OSError), self.connect() as connection:  # a refusal is what the server may do
            for part in (head, *parts):
                connection.sendall(part)
            connection.recv(300)

    def post(self, path: str, body: bytes, *fields: str) -> None:
        """Send a body."""
        self.ask(_head("POST", path, f"Content-Length: {len(body)}", "Connection: close", *fields), body)

    @property
    def predict(self) -> str:
        """The path that takes pictures."""
        return f"/predictions/{self.model}"

    def together(self, count: int, attack: Callable[[], None]) -> None:
        """Repeat an attack in so many threads until it is over."""

        def repeat() -> None:
            while not self.until.is_set():
                attack()

        threads = [threading.Thread(target=repeat, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class Attack:
    """One kind of attack.

    Attributes:
        what: it sends.
        run: sends it until the aim's `until` is set.
    """

    what: str
    run: Callable[[Aim], None]


def _head(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    """A grey PNG of 8 bits with the chunks behind its header."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IEND", b"")


def flat_png(width: int, height: int) -> bytes:
    """A black PNG."""
    return _png(width, height, _chunk(b"IDAT", zlib.compress((b"\0" + bytes(width)) * height)))


def animated_png(width: int = 64, height: int = 48) -> bytes:
    """An animated PNG whose second frame has a row filter that does not exist."""
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    broken = zlib.compress((b"\x07" + bytes(width)) * height)
    frame = struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0)
    return _png(
        width,
        height,
        _chunk(b"acTL", struct.pack(">II", 3, 0)),
        _chunk(b"IDAT", rows),
        _chunk(b"fcTL", frame),
        _chunk(b"fdAT", struct.pack(">I", 1) + broken),
    )


def many_scans_jpeg(width: int = 5600, height: int = 5700, scans: int = 1000) -> bytes:
    """A progressive grey JPEG whose scans each refine every block by nothing."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data

    blocks = -(-width // 8) * -(-height // 8)
    # a code of one bit means 0xE0, "the next 2^14 blocks have nothing", and is followed by 14 bits
    empty = bytes((-(-blocks // (1 << 14)) * 15 + 7) // 8)
    lengths = bytes([1]) + bytes(15)
    found = [
        b"\xff\xd8",
        segment(0xDB, b"\0" + bytes([1]) * 64),
        segment(0xC2, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)),
        segment(0xC4, b"\x00" + lengths + b"\x00"),
        segment(0xC4, b"\x10" + lengths + b"\xe0"),
    ]
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + empty
    return b"".join([*found, scan * scans, b"\xff\xd9"])


def _animation(aim: Aim) -> None:
    picture = animated_png()

    def once() -> None:
        aim.post(aim.predict, picture)
        time.sleep(0.2)

    aim.together(1, once)


def _scans(aim: Aim) -> None:
    picture = many_scans_jpeg()
    aim.together(2, lambda: aim.post(aim.predict, picture))


def _dimensions(aim: Aim) -> None:
    shape = b",".join([_NUMBER_TOO_LARGE] * 250_000)
    body = b'{"inputs":[{"name":"x","datatype":"UINT8","data":[1],"shape":[' + shape + b"]}]}"
    aim.together(2, lambda: aim.post(f"/v2/models/{aim.model}/infer", body))


def _large_json(aim: Aim) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[' + b"1," * (15 << 20) + b"1]}]}"
    aim.together(1, lambda: aim.post(f"/v2/models/{aim.model}/infer", body))


def _held(aim: Aim, count: int, first_bytes: bytes) -> None:
    """Open connections, send little, and hold them open."""
    with ExitStack() as held:
        with suppress(OSError):  # the server may stop taking them
            for _ in range(count):
                connection = held.enter_context(aim.connect())
                if first_bytes:
                    connection.sendall(first_bytes)
        aim.until.wait()


def _promises(aim: Aim) -> None:
    _held(aim, 60, _head("POST", aim.predict, f"Content-Length: {32 << 20}"))


def _chunked(aim: Aim, *parts: bytes) -> None:
    aim.ask(_head("POST", aim.predict, "Transfer-Encoding: chunked"), *parts)


def _line_ends(aim: Aim) -> None:
    parts = [b"%x\r\n" % (32 << 20), *[b"\r\n" * (1 << 19)] * 32, b"\r\n0\r\n\r\n"]
    aim.together(2, lambda: _chunked(aim, *parts))


def _tiny_chunks(aim: Aim) -> None:
    def endless() -> None:
        with suppress(OSError), aim.connect() as connection:  # the server ends it
            connection.sendall(_head("POST", aim.predict, "Transfer-Encoding: chunked"))
            while not aim.until.is_set():
                connection.sendall(b"1\r\nx\r\n" * (1 << 14))

    aim.together(2, endless)


def _repeated(count: int, method: str, path: str, *fields: str) -> Callable[[Aim], None]:
    def run(aim: Aim) -> None:
        aim.together(count, lambda: aim.ask(_head(method, path, "Connection: close", *fields)))

    return run


def _first(aim: Aim) -> None:
    picture = flat_png(28, 28)
    aim.together(40, lambda: aim.post(aim.predict, picture, "X-Request-Priority: 1"))


def _random_keys(aim: Aim) -> None:
    picture = flat_png(28, 28)
    aim.together(
        16, lambda: aim.post(aim.predict, picture, f"Authorization: Bearer {time.perf_counter_ns()}")
    )


def _crowd(aim: Aim) -> None:
    """Ask on many connections that stay open, the next request as soon as there is an answer."""
    picture = flat_png(28, 28)
    request = _head("POST", aim.predict, f"Content-Length: {len(picture)}") + picture

    def one() -> None:
        with suppress(OSError), aim.connect() as connection:  # the server ends it
            while not aim.until.is_set():
                connection.sendall(request)
                if not connection.recv(4096):
                    return

    aim.together(200, one)


def _attacks() -> Sequence[tuple[str, Attack]]:
    loading = "/v2/r%65pository/models/digits/load"
    return (
        ("animation", Attack("an animated PNG of 240 bytes with a broken second frame", _animation)),
        ("scans", Attack("a progressive JPEG of 69 KB with 1,000 scans", _scans)),
        ("dimensions", Attack("a V2 request whose shape has 250,000 dimensions", _dimensions)),
        ("large-json", Attack("a V2 request with 15 million numbers as JSON", _large_json)),
        ("promises", Attack("60 heads that announce bodies of 32 MiB", _promises)),
        ("line-ends", Attack("a chunk of 32 MiB of line ends, twice at a time", _line_ends)),
        ("tiny-chunks", Attack("endless chunks of one byte, twice at a time", _tiny_chunks)),
        ("metrics", Attack("16 loops of GET /metrics", _repeated(16, "GET", "/metrics"))),
        ("priority", Attack("40 loops with X-Request-Priority: 1", _first)),
        ("random-keys", Attack("16 loops, each request with another Authorization", _random_keys)),
        ("crowd", Attack("200 connections that always ask", _crowd)),
        ("idle", Attack("2,500 connections that say nothing", lambda aim: _held(aim, 2500, b""))),
        ("loads", Attack("4 loops that load a model", _repeated(4, "POST", loading, "Content-Length: 0"))),
    )


ATTACKS: dict[str, Attack] = dict(_attacks())
"""The attacks by name, in the order they are run."""


def main() -> None:
    """Run one attack for a while."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("model")
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    until = threading.Event()
    threading.Timer(given.seconds, until.set).start()
    ATTACKS[given.name].run(Aim(given.port, given.model, until))


if __name__ == "__main__":
    main()
