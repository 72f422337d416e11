"""Deadlines, priorities, inflation and forms: `python -m tests.fuzz headers -max_total_time=600`.

An input is header lines, an empty line, and the body.
"""

from __future__ import annotations

import gzip
import zlib

from cpuserve.errors import CpuserveError
from cpuserve.protocols import predictions as images
from cpuserve.protocols.call import Call
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.urgency import urgency_of

_MOST = 5_000


def one(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    headers = {}
    for line in head.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    query = headers.pop("query-string", "")
    call = Call("POST", "/predictions/m", query, headers, body, ClientLimits(max_body_bytes=_MOST))
    urgency = urgency_of(call, 10)
    assert 0 < urgency.timeout_s <= 10
    assert urgency.priority > 0
    for read in (call.body, lambda: images._picture(call), lambda: images._topk(images._query(call))):
        try:
            found = read()
        except CpuserveError:
            continue
        assert not isinstance(found, memoryview) or found.nbytes <= max(_MOST, len(body))


def seeds() -> list[bytes]:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    form = (
        b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\nv\r\n'
        b'--b\r\nContent-Disposition: form-data; name="data"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\xff\r\n--b--\r\n"
    )
    kind = b"Content-Type: multipart/form-data; boundary=b\n"
    return [
        b"X-Request-Timeout-Ms: 250\nX-Request-Priority: 2\n\n\xff\xd8",
        b'Inference-Header-Content-Length: 48\n\n{"parameters": {"timeout": 500, "priority": 1}}  \0',
        b"Content-Encoding: gzip\n\n" + gzip.compress(b"hello" * 9, mtime=0),
        b"Content-Encoding: gzip\n\n" + gzip.compress(bytes(6_000), mtime=0),
        b"Content-Encoding: gzip\n\n" + gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0),
        b"Content-Encoding: gzip\n\n" + gzip.compress(b"one", mtime=0) + b"more",
        b"Content-Encoding: deflate\n\n" + zlib.compress(b"hello"),
        b"Content-Encoding: deflate\n\n" + compressor.compress(b"hello") + compressor.flush(),
        kind + b"query-string: topk=3\n\n" + form,
        kind + b"Content-Encoding: gzip\n\n" + gzip.compress(form, mtime=0),
    ]
