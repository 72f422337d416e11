"""A worker's models without OpenVINO, for tests of handlers."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np

from cpuserve.errors import ModelNotReady, RequestError, UnknownModel
from cpuserve.models.versions import VersionPolicy
from cpuserve.protocols.call import Call, answer
from cpuserve.serving.engine import Port
from cpuserve.serving.geometry import Batch
from cpuserve.serving.model_table import ModelReport
from cpuserve.serving.postprocess import TensorsOnly

FLOAT, BYTE = np.dtype("float32"), np.dtype("uint8")


class Pipeline:
    """A model of two inputs: its outputs are their sum, and the first input as it is.

    With ``takes_sources`` it writes the rows of an input one after the other.
    """

    version, checksum, batch = 2, "abc", Batch(free=True)
    inputs = (Port(("a", "a:0"), FLOAT, (3,)), Port(("b",), BYTE, (3,)))
    outputs = (Port(("sum",), FLOAT, (3,)), Port(("first",), FLOAT, (3,)))
    card = SimpleNamespace(labels=["cat", "dog"], description="", layout="")
    pictures, decode, post = "a way", "fast", TensorsOnly("it is none of pictures")
    batcher = SimpleNamespace(
        engine=SimpleNamespace(sizes=(1, 4), streams=2, read_back=lambda: {"NUM_STREAMS": "2"}),
        delay_us=1.4,
        gathers=False,
    )

    precision_reason = "precision is f32"

    def __init__(self, name="m"):
        self.name = name
        self.takes_sources = False
        self.repeated = 0  # calls of `infer_rows`

    def infer(self, tensors, _request):
        a, b = (tensor if isinstance(tensor, np.ndarray) else _written(tensor) for tensor in tensors)
        if a.shape != b.shape:  # as the real one does
            raise RequestError(f"inputs have the shapes {a.shape} and {b.shape}")
        return [a + b, a]

    def infer_rows(self, sources, count, request):
        """As the real one, which looks at the shapes no more."""
        assert all(source.shape[0] == count for source in sources)
        self.repeated += 1
        return self.infer(sources, request)

    def infer_pictures(self, pictures, _request):
        sizes = np.array([[len(picture)] * 3 for picture in pictures], np.float32)
        return [sizes, -sizes]


def _written(source):
    rows = np.empty(source.shape, source.dtype)
    for number in range(source.shape[0]):
        source.write(rows[number : number + 1], number)
    return rows


class Pool:
    """The models ``m`` (version 2, and a newer one that failed) and ``late``, which is loading."""

    def __init__(self):
        self.pipeline = Pipeline()
        self.models = {
            "m": {
                2: self._state("m", 2, "READY", "", self.pipeline),
                3: self._state("m", 3, "UNAVAILABLE", "no layer Foo"),
            },
            "late": {1: self._state("late", 1, "LOADING", "")},
        }
        self.problems = {}
        self.rollouts = SimpleNamespace(choices={}, texts=lambda _name: {}, labels=lambda _name: {"old": 1})
        self.ready, self.stopping, self.dead, self.stuck = True, False, "", False

    @staticmethod
    def _state(name, version, state, reason, pipeline=None):
        file = SimpleNamespace(name=name, version=version)
        return SimpleNamespace(file=file, state=state, reason=reason, pipeline=pipeline, signature=1)

    def known(self, name, version=None):
        for number, model in self.models.get(self.own_name(name), {}).items():
            if version in (None, "0", str(number)):
                return model
        raise UnknownModel(f"there is no model {name!r}")

    def get(self, name, version=None):
        model = self.known(name, version)
        if model.pipeline is None:
            raise ModelNotReady(f"model {name!r} is {model.state}")
        return model.pipeline

    def pick(self, name, version, _headers):
        return self.get(name, version)

    @staticmethod
    def own_name(name):
        return {"short": "m"}.get(name, name)

    @staticmethod
    def version_policy(_name):
        return VersionPolicy(count=None, only=frozenset((3, 2)))

    def ready_versions(self, name):
        return [number for number, model in self.models.get(name, {}).items() if model.pipeline]

    def states(self):
        return [
            ModelReport(name, number, model.state, model.reason)
            for name, versions in self.models.items()
            for number, model in versions.items()
        ]


def ask(handler, *words, method="POST", body=b"", **headers):
    """Status, headers and JSON of an answer; header names are written with underscores."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = answer(handler, Call(method, "/", "", sent, data), *words)
    headers = dict(reply.headers)
    is_json = headers.get("Content-Type") == "application/json"
    return reply.status, headers, json.loads(reply.body) if is_json else reply.body
