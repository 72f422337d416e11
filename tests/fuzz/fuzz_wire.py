"""Open Inference Protocol bodies: `python -m tests.fuzz wire -max_total_time=600`.

An input is the header Inference-Header-Content-Length (empty: not sent), a line feed, and the body. One that
begins with a zero byte says instead, byte by byte, how a request that is JSON at least is put together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.protocols.tensor import Tensor
from cpuserve.protocols.v2_body import parse_infer

_PARTS = [("data",), ("parameters",), ("data", "parameters"), ()]
_ENTRY = {"name": "x", "datatype": "FP32", "shape": [1, 2]}


_SIZES = [0, 1, 2, 3, -1, 8, 64, 1 << 31, 1 << 63, (1 << 64) - 1, True, None, "", 0.5, 1e300, "\xfc", "/9g="]
_LISTS = [
    [],
    [1] * 65,
    [10**18] * 300,
    [(1 << 64) - 1] * 64,
    [0],
    [[1, 2], [3]],
    [[1], 2],
    [["aGk="], "aGk="],
    [{}],
    {},
    [1, "x" * 99],
    [[[[1.5]]]],
]
_ANY: list[Any] = [*_SIZES, *_LISTS]
_TYPES = [*("FP32", "FP16", "INT64", "UINT64", "UINT8", "BOOL", "BYTES", "", "\xb2"), None, 1]
_NAMES = ["x", "y", "", None, 3]


def one(data: bytes) -> None:
    if data[:1] == b"\0":
        data = _document(data[1:])
    length, _, body = data.partition(b"\n")
    try:
        asked = parse_infer(memoryview(body), length.decode("latin-1") or None)
    except CpuserveError:
        return
    for tensor in asked.inputs:
        _read(tensor)


def _document(choices: bytes) -> bytes:
    left = iter(choices)

    def pick(options: Sequence[Any]) -> Any:
        return options[next(left, 0) % len(options)]

    def some(make: Callable[[], Any]) -> Any:
        return pick(_ANY) if pick(range(8)) == 7 else [make() for _ in range(pick(range(5)))]

    def parameters() -> Any:
        named = ("binary_data_size", "classification", "binary_data", "binary_data_output")
        return (
            pick(_ANY) if pick(range(8)) == 7 else {pick(named): pick(_SIZES) for _ in range(pick(range(3)))}
        )

    def tensor() -> Any:
        fields = {"name": pick(_NAMES), "datatype": pick(_TYPES), "shape": some(lambda: pick(_SIZES))}
        values = {"data": some(lambda: pick(_ANY)), "parameters": parameters()}
        return pick(_ANY) if pick(range(8)) == 7 else fields | {name: values[name] for name in pick(_PARTS)}

    document = {"inputs": some(tensor), "outputs": some(tensor), "parameters": parameters(), "id": pick(_ANY)}
    head = json.dumps(document).encode()
    length: bytes = pick([b"", b"%d" % len(head), b"0", b"\xb2", b"9" * 5000])
    return length + b"\n" + head + bytes(left)


def _read(tensor: Tensor) -> None:
    try:
        array = tensor.array()
    except CpuserveError:
        pass
    else:
        assert array.shape == tensor.shape
    try:
        elements = tensor.elements()
    except CpuserveError:
        return
    assert sum(map(len, elements)) <= (
        tensor.data.nbytes if isinstance(tensor.data, memoryview) else len(str(tensor.data))
    )


def seeds() -> list[bytes]:
    documents = [
        ({"inputs": [{**_ENTRY, "data": [[1, 2.5]]}]}, b""),
        ({"id": "7", "inputs": [{**_ENTRY, "parameters": {"binary_data_size": 8}}]}, b"\0" * 8),
        ({"inputs": [{**_ENTRY, "datatype": "INT64", "data": [1, -9223372036854775808]}]}, b""),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["/9g=", "aGk="]}]}, b""),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1]}]}, b"\2\0\0\0hi"),
        (
            {
                "inputs": [{**_ENTRY, "datatype": "BOOL", "data": [True, False]}],
                "outputs": [{"name": "y", "parameters": {"classification": 3, "binary_data": True}}],
                "parameters": {"binary_data_output": True, "timeout": 500, "priority": 1},
            },
            b"",
        ),
    ]
    made = [b"\0\0\1\0\0\0\1\0\1\0\1\0\0", b"\0" + bytes(range(60))]
    for document, tail in documents:
        head = json.dumps(document).encode()
        made.append((b"%d" % len(head) if tail else b"") + b"\n" + head + tail)
    return made
