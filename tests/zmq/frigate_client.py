"""A client that behaves as Frigate's ZMQ detector does: one REQ socket, a handshake, short patience."""

from __future__ import annotations

import json

import numpy as np
import zmq

HANDSHAKE_MS = 30_000


class FrigateClient:
    """Connects, asks whether its model is there, and then sends pictures.

    Args:
        endpoint: of the detector.
        model: the file name of its own model.
        patience_ms: for each answer about a picture; Frigate's is 200.
        ask: for the model, at first.
    """

    def __init__(self, endpoint, model="yolov9.onnx", patience_ms=20_000, *, ask=True):
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, HANDSHAKE_MS)
        self.socket.setsockopt(zmq.SNDTIMEO, 200)
        self.socket.connect(endpoint)
        self.told = self.ask({"model_request": True, "model_name": model}) if ask else {}
        self.socket.setsockopt(zmq.RCVTIMEO, patience_ms)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self._context.term()

    @property
    def ready(self):
        return bool(self.told.get("model_available") and self.told.get("model_loaded"))

    def ask(self, header, *more):
        """Send JSON and what follows it; the answer is one part of JSON."""
        self.socket.send_multipart([json.dumps(header).encode(), *more])
        (part,) = self.socket.recv_multipart()
        return json.loads(part)

    def detect(self, tensor, **header):
        """The 20 rows about a picture: class, score, top, left, bottom, right."""
        head = {
            "shape": list(tensor.shape),
            "dtype": tensor.dtype.name,
            "model_type": "yologeneric",
            **header,
        }
        return self.send([json.dumps(head).encode(), memoryview(tensor.tobytes())])[1]

    def send(self, parts):
        """The header and the rows of the answer to any message."""
        self.socket.send_multipart(parts)
        head, values = self.socket.recv_multipart()
        document = json.loads(head)
        assert (document["shape"], document["dtype"]) == ([20, 6], "float32")
        return document, np.frombuffer(values, np.float32).reshape(20, 6)
