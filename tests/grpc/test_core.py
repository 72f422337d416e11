"""Calls as gRPC's core has them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cpuserve.grpc.core import CoreCall


class FakeCall:
    """Notes the operations of its batches."""

    def __init__(self):
        self.batches = []

    def peer(self):
        return b"ipv4:127.0.0.1:1"

    def start_server_batch(self, operations, tag):
        self.batches.append(operations)


def made():
    details = SimpleNamespace(deadline=1e18, method=b"/inference.GRPCInferenceService/ModelInfer")
    call = FakeCall()
    return call, CoreCall(SimpleNamespace(call=call, call_details=details, invocation_metadata=()))


@pytest.mark.parametrize("way", [CoreCall.watch, lambda call: call.finish(b"answer")])
def test_no_operation_is_of_two_calls(way):
    """The core writes into it whether the client has gone."""
    (one, first), (other, second) = made(), made()
    way(first)
    way(second)
    assert one.batches
    assert not {id(each) for each in one.batches[0]} & {id(each) for each in other.batches[0]}
