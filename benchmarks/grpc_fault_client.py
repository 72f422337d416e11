"""A client over gRPC that asks a server while faults happen to it, as `Client` does over HTTP."""

from __future__ import annotations

import json
import re
import threading

import grpc
import numpy as np

from benchmarks.fault_clients import Client, Tally
from benchmarks.fixtures.weights_model import INPUTS
from benchmarks.grpc_load import OPTIONS, SERVICE
from cpuserve.grpc.messages import message_class

__all__ = ["GrpcClient"]

_PATIENCE_S = 30.0
_Request = message_class("inference.ModelInferRequest")
_Response = message_class("inference.ModelInferResponse")
# what gRPC itself says of a connection that ended; all else comes from the server
_LOST = re.compile(
    r"[Ss]ocket|recvmsg|sendmsg|[Cc]onnect|GOAWAY|Stream removed|RST_STREAM|transport|unavailable"
)
_STATUSES = {"NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503, "INVALID_ARGUMENT": 400}


class _Connection:
    """One channel with a connection of its own."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, OPTIONS)
        self.infer = self._channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self.close = self._channel.close


class GrpcClient(Client):
    """The same requests over gRPC.

    Args:
        port: of the server's gRPC.
        picture: of a seven.
        tally: takes what it saw.
        number: of the client; odd ones begin with the tensor.
    """

    def __init__(self, port: int, picture: bytes, tally: Tally, number: int) -> None:
        super().__init__(port, picture, tally, number)
        self._address = f"127.0.0.1:{port}"
        entry = {"name": "image", "datatype": "BYTES", "shape": [1]}
        asked = _Request(model_name="digits", inputs=[{**entry, "contents": {"bytes_contents": [picture]}}])
        tensor = _Request(
            model_name="weights",
            inputs=[{"name": "x", "datatype": "FP32", "shape": [1, INPUTS]}],
            raw_input_contents=[np.ones((1, INPUTS), np.float32).tobytes()],
        )
        self._messages = {"picture": asked.SerializeToString(), "tensor": tensor.SerializeToString()}

    def ask(self, until: threading.Event) -> None:
        """Ask until told to stop."""
        self._ask(until, lambda: _Connection(self._address), self._over_grpc)

    def _over_grpc(self, connection: _Connection, kind: str) -> tuple[int, bytes]:
        """An answer as HTTP's status and document."""
        try:
            # while no worker listens yet: connections over HTTP wait for one in the server's socket
            data = connection.infer(self._messages[kind], timeout=_PATIENCE_S, wait_for_ready=True)
        except grpc.RpcError as error:
            code, text = error.code().name, error.details() or ""
            if code == "DEADLINE_EXCEEDED":
                raise TimeoutError(text) from None
            if code == "UNAVAILABLE" and _LOST.search(text):
                raise ConnectionError(text) from None
            return _STATUSES.get(code, 500), f"{code}: {text}".encode()
        values = np.frombuffer(_Response.FromString(data).raw_output_contents[0], np.float32)
        if kind == "picture":
            return 200, json.dumps({"predictions": [{"label": str(values.argmax())}]}).encode()
        return 200, json.dumps({"outputs": [{"data": values.tolist()}]}).encode()
