"""Health, reflection and TensorFlow Serving's services, asked by clients that others wrote."""

from __future__ import annotations

import grpc
import numpy as np
import ovmsclient
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2

from cpuserve.grpc.messages import message_class
from cpuserve.models.versions import VersionPolicy
from cpuserve.protocols.access import Access, ApiKeys, Gate
from cpuserve.protocols.rate_limit import RateLimit
from cpuserve.serving.engine import Port
from tests.grpc.running import WAIT_S, serving_grpc
from tests.protocols.fakes import Pipeline, Pool

PredictRequest = message_class("tensorflow.serving.PredictRequest")
PredictResponse = message_class("tensorflow.serving.PredictResponse")
PREDICT = "tensorflow.serving.PredictionService/Predict"
METADATA = "tensorflow.serving.PredictionService/GetModelMetadata"
A = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
B = np.array([[1, 1, 1], [2, 2, 2]], np.uint8)


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture
def served(pool):
    with serving_grpc(pool) as one:
        yield one


@pytest.fixture
def channel(served):
    with grpc.insecure_channel(served.address) as made:
        yield made


def health(channel, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=WAIT_S).status


def test_health_is_that_of_the_server(channel, pool):
    listed = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert len(listed) > 5
    for service in ("", *listed):
        assert health(channel, service) == health_pb2.HealthCheckResponse.SERVING
    stub = health_pb2_grpc.HealthStub(channel)
    every = stub.List(health_pb2.HealthListRequest(), timeout=WAIT_S).statuses
    assert {name: one.status for name, one in every.items()} == dict.fromkeys(
        ("", *listed), health_pb2.HealthCheckResponse.SERVING
    )
    pool.ready = False
    assert health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health(channel, "nothing")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    every = stub.List(health_pb2.HealthListRequest(), timeout=WAIT_S).statuses
    assert {one.status for one in every.values()} == {health_pb2.HealthCheckResponse.NOT_SERVING}


def test_health_needs_no_key_and_reflection_does():
    with (
        serving_grpc(check=Gate(Access(ApiKeys(["right"]), None), RateLimit(0, 1)).check) as one,
        grpc.insecure_channel(one.address) as channel,
    ):
        assert health(channel) == health_pb2.HealthCheckResponse.SERVING
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="*")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.ServerReflectionInfo(iter([request]), timeout=WAIT_S))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        key = (("x-api-key", "right"),)
        assert next(stub.ServerReflectionInfo(iter([request]), timeout=WAIT_S, metadata=key))


def test_reflection_describes_every_service_and_its_messages(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert services == {
        *("inference.GRPCInferenceService", "grpc.health.v1.Health"),
        *("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"),
        *("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"),
    }
    found = DescriptorPool(database)
    for service in services:
        for method in found.FindServiceByName(service).methods:
            assert found.FindMessageTypeByName(method.input_type.full_name).fields is not None
    request = found.FindMessageTypeByName("inference.ModelInferRequest")
    assert request.fields_by_name["raw_input_contents"].number == 7


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_answer_and_say_what_they_have_not(channel, version):
    def one(**question):
        request = message_class(f"grpc.reflection.{version}.ServerReflectionRequest")(**question)
        call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
        (data,) = call(iter([request.SerializeToString()]), timeout=WAIT_S)
        return message_class(f"grpc.reflection.{version}.ServerReflectionResponse").FromString(data)

    method = one(file_containing_symbol="inference.GRPCInferenceService.ModelInfer")
    (file,) = method.file_descriptor_response.file_descriptor_proto
    assert one(file_by_filename="inference.proto").file_descriptor_response.file_descriptor_proto == [file]
    with_imports = one(file_containing_symbol="tensorflow.serving.PredictRequest")
    assert len(with_imports.file_descriptor_response.file_descriptor_proto) == 4
    for unknown in ({"file_containing_symbol": "no.such"}, {"file_by_filename": "no.proto"}):
        assert one(**unknown).error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert one().error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    numbers = one(all_extension_numbers_of_type="inference.ModelInferRequest")
    assert numbers.error_response.error_code == grpc.StatusCode.UNIMPLEMENTED.value[0]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("tensorflow.serving.PredictionService/Classify", "ask for Predict"),
        ("tensorflow.serving.PredictionService/Regress", "ask for Predict"),
        ("tensorflow.serving.PredictionService/MultiInference", "ask for Predict"),
        ("tensorflow.serving.ModelService/HandleReloadConfigRequest", "RepositoryModelLoad"),
    ],
)
def test_methods_that_are_not_here_say_what_is(channel, method, words):
    """Whatever their messages hold, which the server does not know."""
    with pytest.raises(grpc.RpcError, match=words) as caught:
        channel.unary_unary(f"/{method}")(b"\x0a\x03\xff\xff\xff", timeout=WAIT_S)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("policy", ["latest:2", "all", "specific:2,3"])
def test_the_version_policy_is_that_of_http(channel, monkeypatch, policy):
    wanted = VersionPolicy.parse(policy)
    monkeypatch.setattr(Pool, "version_policy", lambda *_: wanted)
    request = message_class("inference.ModelConfigRequest")(name="m")
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelConfig")
    config = service_pb2.ModelConfigResponse.FromString(call(request.SerializeToString(), timeout=WAIT_S))
    (kind, words), *_ = wanted.document().items()
    assert config.config.version_policy.WhichOneof("policy_choice") == kind
    for field, value in words.items():
        assert getattr(getattr(config.config.version_policy, kind), field) == value


@pytest.fixture
def ovms(served):
    return ovmsclient.make_grpc_client(served.address)


@pytest.mark.parametrize("version", [0, 2])
def test_ovmsclient_predicts(ovms, version):
    found = ovms.predict({"a": A, "b": B}, "m", version, timeout=WAIT_S)
    assert {name: values.tolist() for name, values in found.items()} == {
        "sum": (A + B).tolist(),
        "first": A.tolist(),
    }


def test_ovmsclient_sends_pictures(ovms):
    found = ovms.predict({"a": [b"four", b"sixsix"]}, "m", timeout=WAIT_S)
    assert found["sum"].tolist() == [[4, 4, 4], [6, 6, 6]]


def test_ovmsclient_asks_for_metadata_and_status(ovms):
    found = ovms.get_model_metadata("m", timeout=WAIT_S)
    assert found["model_version"] == 2
    assert found["inputs"]["a"] == {"shape": [-1, 3], "dtype": "DT_FLOAT"}
    assert found["outputs"].keys() == {"sum", "first"}
    assert ovms.get_model_status("m", timeout=WAIT_S) == {
        3: {"state": "END", "error_code": 2, "error_message": "no layer Foo"},
        2: {"state": "AVAILABLE", "error_code": 0, "error_message": ""},
    }
    with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
        ovms.get_model_status("nothing", timeout=WAIT_S)


def predict(channel, request):
    data = channel.unary_unary(f"/{PREDICT}")(request.SerializeToString(), timeout=WAIT_S)
    return PredictResponse.FromString(data)


def tensor(dtype, shape, **values):
    return {"dtype": dtype, "tensor_shape": {"dim": [{"size": size} for size in shape]}, **values}


def request(model="m", **more):
    inputs = {"a": tensor(1, (1, 3), float_val=[1, 2, 3]), "b": tensor(4, (1, 3), int_val=[1, 2, 3])}
    return PredictRequest(**{"model_spec": {"name": model}, "inputs": inputs, **more})


def test_values_one_by_one_and_only_the_outputs_that_are_asked_for(channel):
    answer = predict(channel, request(output_filter=["sum"]))
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 2)
    assert list(answer.outputs) == ["sum"]
    assert np.frombuffer(answer.outputs["sum"].tensor_content, np.float32).tolist() == [2, 4, 6]


def test_half_precision_comes_as_bits(channel, monkeypatch):
    half, truth = np.dtype("float16"), np.dtype("bool")
    monkeypatch.setattr(Pipeline, "inputs", (Port(("a",), half, (3,)), Port(("b",), truth, (3,))))
    bits = np.array([1, 2, 3], np.float16).view(np.uint16).tolist()
    inputs = {"a": tensor(19, (1, 3), half_val=bits), "b": tensor(10, (1, 3), bool_val=[True] * 3)}
    answer = predict(channel, request(inputs=inputs))
    assert answer.outputs["sum"].dtype == 19
    assert np.frombuffer(answer.outputs["sum"].tensor_content, half).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("dtype", "number", "field"), [("float32", 1, "float_val"), ("float64", 2, "double_val")]
)
def test_floats_may_be_infinite_or_none_one_by_one_too(channel, monkeypatch, dtype, number, field):
    monkeypatch.setattr(
        Pipeline, "inputs", (Port(("a",), np.dtype(dtype), (3,)), Port(("b",), np.dtype("uint8"), (3,)))
    )
    values = np.array([[np.nan, np.inf, 1.1]], dtype)
    answers = []
    for sent in ({field: values[0].tolist()}, {"tensor_content": values.tobytes()}):
        inputs = {"a": tensor(number, (1, 3), **sent), "b": tensor(4, (1, 3), int_val=[0] * 3)}
        answers.append(predict(channel, request(inputs=inputs)).outputs["sum"].tensor_content)
    assert answers[0] == answers[1]


def test_the_last_value_stands_for_those_that_are_left_out(channel):
    """TensorFlow's make_tensor_proto(1.5, shape=(2, 3)) sends one value."""
    inputs = {"a": tensor(1, (2, 3), float_val=[4, 1.5]), "b": tensor(4, (2, 3), int_val=[2])}
    found = predict(channel, request(inputs=inputs)).outputs["sum"]
    assert np.frombuffer(found.tensor_content, np.float32).tolist() == [6, *[3.5] * 5]


@pytest.mark.parametrize(("fields", "refused"), [(["signature_def"], ""), ([], ""), (["graph"], "'graph'")])
def test_the_signature_is_all_there_is_of_metadata(channel, fields, refused):
    asked = message_class("tensorflow.serving.GetModelMetadataRequest")
    sent = asked(model_spec={"name": "m"}, metadata_field=fields)
    call = channel.unary_unary(f"/{METADATA}")
    if not refused:
        assert call(sent.SerializeToString(), timeout=WAIT_S)
        return
    with pytest.raises(grpc.RpcError, match=refused) as caught:
        call(sent.SerializeToString(), timeout=WAIT_S)
    assert caught.value.code().name == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (request("nothing"), "NOT_FOUND", "there is no model"),
        (request("late"), "UNAVAILABLE", "is LOADING"),
        (request(""), "INVALID_ARGUMENT", "the name of a model"),
        (
            request(model_spec={"name": "m", "version_label": "2"}),
            "INVALID_ARGUMENT",
            "label '2' is no label",
        ),
        (request(model_spec={"name": "m", "version_label": "stable"}), "NOT_FOUND", "there is no model"),
        (request(inputs={}), "INVALID_ARGUMENT", "at least one of inputs"),
        (request(output_filter=["none"]), "INVALID_ARGUMENT", "there is no output 'none'"),
        (request(inputs={"a": tensor(99, (1,))}), "INVALID_ARGUMENT", "dtype 99 cannot be served"),
        (request(inputs={"a": tensor(1, (-1, 3))}), "INVALID_ARGUMENT", "whole numbers"),
        (request(inputs={"a": tensor(1, [1] * 65)}), "INVALID_ARGUMENT", "64 dimensions"),
        (request(inputs={"a": tensor(1, [1] * 5000)}), "INVALID_ARGUMENT", "4096 fields"),
        (request(inputs={"a": tensor(7, [1], string_val=[b""] * 5000)}), "INVALID_ARGUMENT", "4096 fields"),
        (request(inputs={"a": tensor(1, (2, 3), float_val=[1] * 7)}), "INVALID_ARGUMENT", "7 were sent"),
        (request(inputs={"a": tensor(1, (2, 3))}), "INVALID_ARGUMENT", "takes 6 values, 0 were sent"),
        (
            request(inputs={"a": {"dtype": 1, "tensor_shape": {"unknown_rank": True}, "float_val": [1]}}),
            *("INVALID_ARGUMENT", "unknown_rank"),
        ),
        (request(inputs={"a": tensor(19, (1,), half_val=[65536])}), "INVALID_ARGUMENT", "65536 in half_val"),
        (request(inputs={"a": tensor(19, (1,), half_val=[-32769])}), "INVALID_ARGUMENT", "16 bits"),
        (
            request(inputs={"a": tensor(1, (1 << 40,), float_val=[1])}),
            "INVALID_ARGUMENT",
            "max_json_elements",
        ),
        (request(inputs={"a": tensor(7, (1025,), string_val=[b"A"])}), "INVALID_ARGUMENT", "max_pictures"),
        (request(inputs={"a": tensor(7, (1, 1025), string_val=[b"A"])}), "INVALID_ARGUMENT", "not [1, 1025]"),
        (request(inputs={"a": tensor(7, (1, 2), string_val=[b"A"])}), "INVALID_ARGUMENT", "not [1, 2]"),
        (
            request(inputs={"a": tensor(7, (1 << 40,), string_val=[b""])}),
            "INVALID_ARGUMENT",
            "max_json_elements",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_code(channel, sent, code, words):
    with pytest.raises(grpc.RpcError) as caught:
        predict(channel, sent)
    assert (caught.value.code().name, words in caught.value.details()) == (code, True), caught.value.details()


def test_more_numbers_than_are_allowed_are_refused():
    with (
        serving_grpc(max_json_elements=2) as one,
        grpc.insecure_channel(one.address) as channel,
        pytest.raises(grpc.RpcError, match="max_json_elements"),
    ):
        predict(channel, request())


@pytest.mark.parametrize(("rows", "code"), [(1, "OK"), (2, "INVALID_ARGUMENT")])
def test_the_values_of_all_inputs_are_counted_together_with_those_left_out(rows, code):
    sent = request(inputs={"a": tensor(1, (rows, 3), float_val=[1]), "b": tensor(4, (rows, 3), int_val=[1])})
    with serving_grpc(max_json_elements=8) as one, grpc.insecure_channel(one.address) as channel:
        try:
            predict(channel, sent)
        except grpc.RpcError as error:
            assert (error.code().name, "all inputs together may have 8" in error.details()) == (code, True)
        else:
            assert code == "OK"


def test_pictures_beside_another_input_are_refused(channel):
    text = tensor(7, (2,), string_val=[b"abc"])
    with pytest.raises(grpc.RpcError, match="the only input of a request"):
        predict(channel, request(inputs={"a": text, "b": text}))
