"""The messages are those of the published protocols, and the descriptors those of the .proto files."""

from __future__ import annotations

from pathlib import Path

import grpc_tools
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_tools import protoc
from tritonclient.grpc import model_config_pb2, service_pb2

from cpuserve.errors import NotSupported, RequestError
from cpuserve.grpc.messages import PROTOS, message_class, parse
from cpuserve.grpc.methods import all_methods
from cpuserve.protocols.admin import Admin
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.trace_ring import TraceRing
from tests.protocols.fakes import Pool

WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


def test_the_descriptors_are_those_of_the_proto_files(tmp_path):
    out = tmp_path / "descriptors.binpb"
    files = sorted(str(file) for file in PROTOS.glob("*.proto"))
    assert (
        protoc.main(
            [
                "protoc",
                f"-I{PROTOS}",
                f"-I{WELL_KNOWN}",
                "--include_imports",
                f"--descriptor_set_out={out}",
                *files,
            ]
        )
        == 0
    )
    made = FileDescriptorSet.FromString(out.read_bytes())
    kept = FileDescriptorSet.FromString((PROTOS / "descriptors.binpb").read_bytes())
    assert kept == made, "run python docs/generate.py"


def test_every_method_that_is_answered_is_described():
    methods = all_methods(Pool(), Admin(None, LogSwitches("info"), TraceRing(rows=1)), None)
    described = {
        f"/{file.package}.{service.name}/{method.name}": method
        for file in FileDescriptorSet.FromString((PROTOS / "descriptors.binpb").read_bytes()).file
        for service in file.service
        for method in service.method
    }
    assert {*described} <= {method.name for method in methods}
    for method in methods:
        if method.name not in described:
            with pytest.raises(NotSupported):
                method.read(b"")
            continue
        flags = described[method.name]
        streams = method.wrap is not None
        assert (flags.client_streaming, flags.server_streaming) == (streams, streams or method.lasting)


def fields(message):
    """Number, type and place of every field of a message and of those inside it, by name."""
    found = {
        f"{message.full_name}.{field.name}": (
            *(field.number, field.type, field.is_repeated, field.is_packed),
            field.containing_oneof.name if field.containing_oneof else None,
        )
        for field in message.fields
    }
    for inner in message.nested_types:
        found |= fields(inner)
    for enum in message.enum_types:
        found |= {f"{enum.full_name}.{value.name}": value.number for value in enum.values}
    return found


@pytest.mark.parametrize("theirs", [service_pb2, model_config_pb2, health_pb2])
def test_numbers_and_types_of_fields_are_the_published_ones(theirs):
    compared = 0
    for name, message in theirs.DESCRIPTOR.message_types_by_name.items():
        try:
            ours = fields(message_class(f"{theirs.DESCRIPTOR.package}.{name}").DESCRIPTOR)
        except KeyError:
            continue
        published = fields(message)
        assert {field: published.get(field) for field in ours} == ours
        compared += 1
    assert compared > 1


def test_methods_are_the_published_ones():
    def methods(service):
        return {
            (one.name, one.input_type.full_name, one.output_type.full_name, one.client_streaming)
            for one in service.methods
        }

    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    ours = message_class("inference.ModelInferRequest").DESCRIPTOR.file.services_by_name[
        "GRPCInferenceService"
    ]
    assert methods(ours) <= methods(theirs)
    assert {name for name, *_ in methods(theirs) - methods(ours)} == {"CudaSharedMemoryRegister"}


def test_bytes_of_another_kind_are_refused_by_the_name_of_the_message():
    with pytest.raises(RequestError, match=r"no inference\.ModelReadyRequest"):
        parse(message_class("inference.ModelReadyRequest"), b"\xff\xff")
