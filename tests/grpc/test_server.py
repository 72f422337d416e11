"""Calls over gRPC are answered by the worker's queue, threads and rules; refusals, streams and the end."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from cpuserve.errors import DeadlineExceeded, UndecodableImage
from cpuserve.grpc import calls as module
from cpuserve.grpc.grpc_call import GrpcCall, address_of
from cpuserve.grpc.messages import message_class
from cpuserve.grpc.open_call import OpenCall
from cpuserve.protocols.access import Access, ApiKeys, Gate
from cpuserve.protocols.rate_limit import RateLimit
from tests.grpc.running import WAIT_S, ask, full_name, refusal, serving_grpc
from tests.http.clients import wait_until
from tests.protocols.fakes import Pipeline, Pool
from tests.servers import free_port

Request = message_class("inference.ModelInferRequest")
Response = message_class("inference.ModelInferResponse")
StreamResponse = message_class("inference.ModelStreamInferResponse")
ROWS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def tensors(model="m", **more):
    """A request of both inputs of the fake model."""
    return Request(
        model_name=model,
        inputs=[
            {"name": "a", "datatype": "FP32", "shape": [2, 3]},
            {"name": "b", "datatype": "UINT8", "shape": [2, 3]},
        ],
        raw_input_contents=[ROWS.tobytes(), b"\1\1\1\2\2\2"],
        **more,
    )


def pictures(*contents, model="m", **more):
    entry = {"name": "a", "datatype": "BYTES", "shape": [len(contents)]}
    return Request(model_name=model, inputs=[{**entry, "contents": {"bytes_contents": contents}}], **more)


def infer(served, request, **options):
    data, trailing = ask(served.address, "ModelInfer", request.SerializeToString(), **options)
    return Response.FromString(data), trailing


def refused(served, request, **options):
    return refusal(served.address, "ModelInfer", request.SerializeToString(), **options)


class Stuck(Pool):
    """Its model waits until it is let go, and remembers how it was run."""

    def __init__(self):
        super().__init__()
        self.go, self.inside, self.seen = threading.Event(), threading.Semaphore(0), []
        stuck = self

        class Waiting(Pipeline):
            def infer_pictures(self, found, request):
                stuck.seen.append(bytes(found[0]))
                stuck.inside.release()
                assert stuck.go.wait(WAIT_S)
                return super().infer_pictures(found, request)

        self.pipeline = self.models["m"][2].pipeline = Waiting()


@pytest.fixture
def served():
    with serving_grpc() as one:
        yield one


def test_tensors_are_answered_raw_with_the_times_of_the_stages(served):
    answer, trailing = infer(served, tensors(id="42"))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "2", "42")
    assert [(one.name, list(one.shape)) for one in answer.outputs] == [("sum", [2, 3]), ("first", [2, 3])]
    total = ROWS + np.array([[1, 1, 1], [2, 2, 2]], np.float32)
    assert list(answer.raw_output_contents) == [total.tobytes(), ROWS.tobytes()]
    assert "total;dur=" in trailing["server-timing"]


def test_pictures_and_classes(served):
    wanted = [{"name": "sum", "parameters": {"classification": {"int64_param": 1}}}]
    answer, _ = infer(served, pictures(b"four", b"sixsix", outputs=wanted))
    assert answer.raw_output_contents == [b"\x0e\0\0\x004.000000:0:cat\x0e\0\0\x006.000000:0:cat"]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (tensors("nothing"), "NOT_FOUND", "there is no model 'nothing'"),
        (tensors("late"), "UNAVAILABLE", "'late' is LOADING"),
        (tensors(model_version="9"), "NOT_FOUND", "there is no model"),
        (Request(model_name="m"), "INVALID_ARGUMENT", "at least one of inputs"),
        (
            Request(model_name="nothing"),
            "NOT_FOUND",
            "there is no model 'nothing'",
        ),
        (pictures(*[b"x"] * 1025), "INVALID_ARGUMENT", "1025 pictures; a request may have 1024"),
        (tensors(outputs=[{"name": "none"}]), "INVALID_ARGUMENT", "there is no output 'none'"),
    ],
)
def test_refusals_have_the_code_of_their_error_and_its_text(served, request_, code, words):
    found, text = refused(served, request_)
    assert (found, words in text) == (code, True), text


def test_a_failure_of_the_code_is_internal_and_says_nothing_of_it(served, monkeypatch):
    monkeypatch.setattr(Pipeline, "infer", lambda *_: {}["a secret"])
    assert refused(served, tensors()) == ("INTERNAL", "internal error; the server's log says more")
    monkeypatch.undo()
    assert infer(served, tensors())[0].model_name == "m"


def test_an_error_of_the_pipeline_keeps_its_code(served, monkeypatch):
    def fail(*_):
        raise UndecodableImage("the picture is empty")

    monkeypatch.setattr(Pipeline, "infer_pictures", fail)
    assert refused(served, pictures(b"")) == ("INVALID_ARGUMENT", "the picture is empty")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("Nothing", "no method /inference.GRPCInferenceService/Nothing"),
        ("CudaSharedMemoryRegister", "there is no CUDA"),
        ("CudaSharedMemoryStatus", "shared_memory_prefix"),
        ("CudaSharedMemoryUnregister", "shared_memory_prefix"),
        ("SystemSharedMemoryStatus", "shared_memory_prefix"),
        ("SystemSharedMemoryRegister", "shared_memory_prefix"),
        ("SystemSharedMemoryUnregister", "shared_memory_prefix"),
    ],
)
def test_what_there_is_not_is_unimplemented(served, method, words):
    code, text = refusal(served.address, method, b"")
    assert (code, words in text) == ("UNIMPLEMENTED", True)


@pytest.mark.parametrize("letter", ["m", "ü", "模"])
def test_a_long_refusal_reaches_the_client_with_its_code(served, letter):
    """A client takes no more than so many bytes of headers, and the text of a refusal is one."""
    message = message_class("inference.ModelMetadataRequest")(name=letter * 20_000)
    code, text = refusal(served.address, "ModelMetadata", message.SerializeToString())
    assert (code, text[-4:]) == ("NOT_FOUND", " ...")
    assert letter * 100 in text
    assert len(text) < 4096


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelInfer", "LogSettings"])
def test_bytes_that_are_no_message_are_refused(served, method):
    code, text = refusal(served.address, method, b"\xff\xff\xff")
    assert (code, "message" in text) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize("rate", ["9" * 20, "9" * 5000, "٣", "-1", "1.0", ""])
def test_a_trace_setting_that_is_no_number_of_json_is_refused(served, rate):
    kind = message_class("inference.TraceSettingRequest")
    message = kind(settings={"stack_rate": kind.SettingValue(value=[rate])})
    code, text = refusal(served.address, "TraceSetting", message.SerializeToString())
    assert (code, "'stack_rate' cannot be set so" in text) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    "method",
    [
        "ModelReady",
        "ModelMetadata",
        "ModelConfig",
        "ModelInfer",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    ],
)
def test_a_message_without_the_name_of_a_model_is_refused(served, method):
    assert refusal(served.address, method, b"") == (
        "INVALID_ARGUMENT",
        "the request needs the name of a model",
    )


def test_messages_above_the_limit_are_refused_and_the_channel_stays(served):
    with serving_grpc(max_body_bytes=100_000) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        for compression in (None, grpc.Compression.Gzip):  # also what would be unpacked to more
            with pytest.raises(grpc.RpcError) as caught:
                call(pictures(bytes(1 << 20)).SerializeToString(), compression=compression, timeout=WAIT_S)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call(pictures(b"x").SerializeToString(), compression=grpc.Compression.Gzip, timeout=WAIT_S)


def test_a_message_without_tensors_is_small(served):
    code, text = refusal(served.address, "ModelMetadata", b"\x0a" + b"\x80\x80\x80\x01" + b"x" * (1 << 21))
    assert (code, "without tensors" in text) == ("RESOURCE_EXHAUSTED", True)


def test_messages_count_against_the_memory_of_bodies():
    with serving_grpc(budget=1 << 20) as one:
        code, text = refused(one, pictures(bytes(900_000)))
        assert (code, "max_unfinished_body_bytes" in text) == ("UNAVAILABLE", True)
        assert infer(one, pictures(bytes(1000)))[0].model_name == "m"
        assert one.counted == ["refused_body_memory"]
        assert one.transport.budget.held == 0


def test_without_a_key_only_health_is_answered():
    access = Access(ApiKeys(["right"]), None)
    with serving_grpc(check=Gate(access, RateLimit(0, 1)).check) as one:
        for method in ("ServerLive", "ServerReady"):
            assert ask(one.address, method, b"")[0] == b"\x08\x01"
        assert ask(one.address, "ModelReady", b"\x0a\x01m")[0] == b"\x08\x01"
        for method in ("ServerMetadata", "ModelMetadata", "ModelInfer", "RepositoryIndex", "LogSettings"):
            assert refusal(one.address, method, b"")[0] == "UNAUTHENTICATED"
        wrong = [("x-api-key", "wrong")]
        assert refused(one, tensors(), metadata=wrong)[0] == "UNAUTHENTICATED"
        for right in (("x-api-key", "right"), ("authorization", "Bearer right")):
            assert infer(one, tensors(), metadata=[right])[0].model_name == "m"
        # a name cannot make a path that needs no key
        assert refusal(one.address, "ModelMetadata", b"\x0a\x07m/ready")[0] == "UNAUTHENTICATED"
        assert set(one.counted) == {"refused_key"}


def test_refusals_before_a_call_begins_are_counted():
    with serving_grpc(max_connections=1) as one, grpc.insecure_channel(one.address) as channel:
        with pytest.raises(grpc.RpcError, match="there is no method /a/b"):
            channel.unary_unary("/a/b")(b"", timeout=WAIT_S)
        never = threading.Event()
        held = channel.stream_stream(full_name("ModelStreamInfer"))(iter(never.wait, True), timeout=WAIT_S)
        wait_until(lambda: one.server._calls._open)
        with pytest.raises(grpc.RpcError, match="1 calls are open in this worker"):
            channel.unary_unary(full_name("ServerLive"))(b"", timeout=WAIT_S)
        held.cancel()
        never.set()
        assert one.codes == ["UNIMPLEMENTED", "RESOURCE_EXHAUSTED"]


def test_a_client_over_its_rate_is_told_when_to_come_back():
    with serving_grpc(check=Gate(None, RateLimit(0.01, 1)).check) as one:
        assert infer(one, tensors())
        with grpc.insecure_channel(one.address) as channel:
            call = channel.unary_unary(full_name("ModelInfer"))
            with pytest.raises(grpc.RpcError) as caught:
                call(tensors().SerializeToString(), timeout=WAIT_S)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "setting rate_limit" in caught.value.details()
        assert int(dict(caught.value.trailing_metadata())["retry-after"]) > 50
        assert ask(one.address, "ServerReady", b"")[0] == b"\x08\x01"


def test_a_full_queue_refuses_and_health_is_answered_while_all_threads_are_busy():
    pool = Stuck()
    with serving_grpc(pool, queue_size=1) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        first = call.future(pictures(b"1").SerializeToString(), timeout=WAIT_S)
        assert pool.inside.acquire(timeout=WAIT_S)
        second = call.future(pictures(b"2").SerializeToString(), timeout=WAIT_S)
        wait_until(lambda: one.loop.waiting == 1)
        code, text = refused(one, pictures(b"3"))
        assert (code, "setting queue_size" in text) == ("UNAVAILABLE", True)
        assert ask(one.address, "ServerLive", b"")[0] == b"\x08\x01"
        pool.go.set()
        assert first.result()
        assert second.result()
        assert pool.seen == [b"1", b"2"]
        assert one.counted == ["refused_queue_full"]


@pytest.mark.parametrize(("metadata", "words"), [((), "queue_size"), ([("x-request-timeout-ms", "1")], "")])
def test_a_call_that_could_not_wait_is_refused_before_its_message_comes(metadata, words):
    pool, never = Stuck(), threading.Event()
    with serving_grpc(pool, queue_size=1) as one, grpc.insecure_channel(one.address) as channel:
        lines = []
        one.loop.runner.access_log = SimpleNamespace(
            write=lambda call, *more: lines.append((call.address, *more))
        )
        call = channel.unary_unary(full_name("ModelInfer"))
        first = call.future(pictures(b"1").SerializeToString(), timeout=WAIT_S)
        assert pool.inside.acquire(timeout=WAIT_S)
        second = call.future(pictures(b"2").SerializeToString(), timeout=WAIT_S)
        wait_until(lambda: one.loop.waiting == 1)

        def messages():
            never.wait(WAIT_S)
            yield b""

        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(full_name("ModelInfer"))(messages(), timeout=WAIT_S, metadata=metadata)
        never.set()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert words in caught.value.details()
        assert (one.counted, one.codes) == (["refused_queue_full"], ["UNAVAILABLE"])
        assert [line[:3] for line in lines] == [("127.0.0.1", "/v2/models/-/infer", 503)]
        pool.go.set()
        assert first.result()
        assert second.result()


def test_a_priority_in_the_message_goes_first():
    pool = Stuck()
    with serving_grpc(pool) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        futures = [call.future(pictures(b"first").SerializeToString(), timeout=WAIT_S)]
        assert pool.inside.acquire(timeout=WAIT_S)
        urgent = pictures(b"urgent", parameters={"priority": {"uint64_param": 1}})
        for count, request in enumerate((pictures(b"usual"), urgent), 1):
            futures.append(call.future(request.SerializeToString(), timeout=WAIT_S))
            wait_until(lambda count=count: one.loop.waiting == count)
        pool.go.set()
        for future in futures:
            assert future.result()
        assert pool.seen == [b"first", b"urgent", b"usual"]


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("timeout", {"string_param": "5"}),
        ("timeout", {"double_param": 1.5}),
        ("priority", {"bool_param": True}),
        ("priority", {"string_param": "high"}),
    ],
)
def test_a_time_or_a_priority_that_is_no_whole_number_is_refused(served, name, choice):
    code, text = refused(served, pictures(b"x", parameters={name: choice}))
    assert (code, f"the parameter {name!r} is a whole number" in text) == ("INVALID_ARGUMENT", True)


def test_the_least_of_all_deadlines_holds(served, monkeypatch):
    seen = []

    def remember(self, found, request):
        seen.append(request.due - time.monotonic())
        return [np.zeros((1, 3), np.float32)] * 2

    monkeypatch.setattr(Pipeline, "infer_pictures", remember)
    infer(served, pictures(b"x"), timeout=None)
    infer(served, pictures(b"x"), timeout=40)
    infer(served, pictures(b"x", parameters={"timeout": {"int64_param": 20_000_000}}), timeout=40)
    infer(served, pictures(b"x"), timeout=40, metadata=[("x-request-timeout-ms", "10000")])
    assert [left < most + 1 for left, most in zip(seen, (60, 40, 20, 10), strict=True)] == [True] * 4
    assert all(left > most + 1 for left, most in zip(seen, (40, 20, 10), strict=False))


def test_a_request_that_waits_beyond_its_deadline_is_not_run():
    pool = Stuck()
    with serving_grpc(pool) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        first = call.future(pictures(b"1").SerializeToString(), timeout=WAIT_S)
        assert pool.inside.acquire(timeout=WAIT_S)
        soon = pictures(b"2", parameters={"timeout": {"int64_param": 50_000}})
        second = call.future(soon.SerializeToString(), timeout=WAIT_S)
        wait_until(lambda: one.loop.waiting == 1)
        time.sleep(0.06)
        pool.go.set()
        assert first.result()
        with pytest.raises(grpc.RpcError) as caught:
            second.result()
        assert caught.value.code().name == DeadlineExceeded.grpc_code
        assert pool.seen == [b"1"]


def test_for_a_client_that_left_nothing_is_computed():
    pool = Stuck()
    with serving_grpc(pool) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        first = call.future(pictures(b"1").SerializeToString(), timeout=WAIT_S)
        assert pool.inside.acquire(timeout=WAIT_S)
        second = call.future(pictures(bytes(50_000)).SerializeToString(), timeout=WAIT_S)
        wait_until(lambda: one.loop.waiting == 1)
        second.cancel()
        wait_until(lambda: one.transport.budget.held < 100)
        pool.go.set()
        assert first.result()
        wait_until(lambda: not one.loop.waiting)
        assert pool.seen == [b"1"]


def test_a_message_that_does_not_come_is_given_up(served):
    with serving_grpc(request_timeout_s=0.2) as one, grpc.insecure_channel(one.address) as channel:
        never = threading.Event()

        def messages():
            never.wait(WAIT_S)
            yield b""

        call = channel.stream_unary(full_name("ModelInfer"))
        with pytest.raises(grpc.RpcError) as caught:
            call(messages(), timeout=WAIT_S)
        never.set()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "setting request_timeout_s" in caught.value.details()


def test_a_call_without_a_message_is_refused(served):
    with grpc.insecure_channel(served.address) as channel:
        call = channel.stream_unary(full_name("ModelInfer"))
        with pytest.raises(grpc.RpcError) as caught:
            call(iter(()), timeout=WAIT_S)
        assert (caught.value.code().name, caught.value.details()) == (
            "INVALID_ARGUMENT",
            "there is no message",
        )


def stream(served, *requests, **options):
    with grpc.insecure_channel(served.address) as channel:
        call = channel.stream_stream(full_name("ModelStreamInfer"))
        sent = (request.SerializeToString() for request in requests)
        return [StreamResponse.FromString(data) for data in call(sent, timeout=WAIT_S, **options)]


def test_a_stream_is_answered_in_its_order_and_goes_on_after_an_error():
    with serving_grpc(threads=4) as one:
        wishes = [
            pictures(b"x" * number, id=str(number), model="m" if number % 7 else "no") for number in range(60)
        ]
        answers = stream(one, *wishes)
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(60)]
    for number, answer in enumerate(answers):
        # clients of Triton wait for it, as its models may answer a request several times
        assert answer.infer_response.parameters["triton_final_response"].bool_param
        assert answer.error_message == ("" if number % 7 else "there is no model 'no'")
        if number % 7:
            assert np.frombuffer(answer.infer_response.raw_output_contents[0], np.float32)[0] == number


def test_streams_that_ask_for_nothing_make_room_for_one_that_does():
    with serving_grpc(max_body_bytes=1 << 28) as one, grpc.insecure_channel(one.address) as channel:
        never = threading.Event()

        def messages():
            never.wait(WAIT_S)
            yield from ()

        call = channel.stream_stream(full_name("ModelStreamInfer"))
        idle = [call(messages(), timeout=WAIT_S) for _ in range(40)]
        assert not stream(one, pictures(b"x", id="1"))[0].error_message
        never.set()
        codes = [each.code().name for each in idle]
    assert codes.count("UNAVAILABLE") == 9
    assert codes.count("OK") == 31


def test_every_message_of_a_stream_counts_against_the_rate():
    with serving_grpc(check=Gate(None, RateLimit(0.01, 3)).check) as one:
        answers = stream(one, *[pictures(b"x", id="1")] * 5)
    assert ["rate_limit" in answer.error_message for answer in answers] == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("metadata", "code", "text"),
    [
        ((), "UNAUTHENTICATED", "an API key is needed"),
        ((("x-api-key", "wrong"),), "UNAUTHENTICATED", "an API key is needed"),
        ([("x-api-key", "right"), *[("x", "y")] * 101], "RESOURCE_EXHAUSTED", "a call may have 100 metadata"),
    ],
)
def test_a_stream_that_may_not_go_on_is_ended_before_a_message_is_read(metadata, code, text):
    access = Access(ApiKeys(["right"]), None)
    with (
        serving_grpc(check=Gate(access, RateLimit(0, 1)).check) as one,
        grpc.insecure_channel(one.address) as channel,
    ):
        call = channel.stream_stream(full_name("ModelStreamInfer"))
        held, never = [], threading.Event()
        for _ in range(32):
            held.append(call(iter(never.wait, True), metadata=(("x-api-key", "right"),), timeout=WAIT_S))
        wait_until(lambda: len(one.server._calls._open) == 32)
        with pytest.raises(grpc.RpcError, match=text) as caught:
            next(call(iter(never.wait, True), metadata=metadata, timeout=WAIT_S))
        assert (caught.value.code().name, one.codes) == (code, [code])
        assert all(other.is_active() for other in held)  # none makes room for it
        assert one.counted == ["refused_key"] * (code == "UNAUTHENTICATED")
        never.set()


def test_an_endless_stream_holds_no_more_than_its_window():
    pool = Stuck()
    with serving_grpc(pool, queue_size=1000) as one, grpc.insecure_channel(one.address) as channel:
        sent = []

        def endless():
            while not pool.go.is_set():
                sent.append(1)
                yield pictures(bytes(50_000)).SerializeToString()

        call = channel.stream_stream(full_name("ModelStreamInfer"))
        answers = call(endless(), timeout=WAIT_S)
        assert pool.inside.acquire(timeout=WAIT_S)
        wait_until(lambda: one.loop.waiting >= 15)
        time.sleep(0.2)
        assert one.loop.waiting <= 20
        assert one.transport.budget.held <= 20 * 51_000
        pool.go.set()
        assert len(list(answers)) == len(sent)
    assert one.transport.budget.held == 0


def test_a_stream_that_is_cut_leaves_nothing_behind():
    pool = Stuck()
    with serving_grpc(pool) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.stream_stream(full_name("ModelStreamInfer"))
        answers = call(iter([pictures(bytes(50_000)).SerializeToString()] * 10), timeout=WAIT_S)
        assert pool.inside.acquire(timeout=WAIT_S)
        wait_until(lambda: one.loop.waiting == 9)
        answers.cancel()
        wait_until(lambda: one.transport.budget.held < 60_000)  # what is being computed is held still
        pool.go.set()
        assert infer(one, pictures(b"x"))
        assert one.transport.budget.held == 0
        assert len(pool.seen) == 2
        assert sorted(one.codes) == ["CANCELLED"] * 10 + ["OK"]


def test_what_is_here_is_answered_when_the_server_stops():
    pool = Stuck()
    with serving_grpc(pool) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        first = call.future(pictures(b"1").SerializeToString(), timeout=WAIT_S)
        assert pool.inside.acquire(timeout=WAIT_S)
        one.server.stop(WAIT_S)
        wait_until(lambda: refused(one, tensors(), timeout=5)[0] == "UNAVAILABLE")
        assert one.server.running
        pool.go.set()
        assert first.result()
        wait_until(lambda: not one.server.running)
        one.server.start()
        assert not one.server.running


def test_a_client_that_waits_for_ready_is_answered_once_the_server_is_there():
    waits = '{"methodConfig": [{"name": [{}], "waitForReady": true}]}'  # as docs/protocols.md says
    port = free_port()
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.service_config", waits)]) as channel:
        call = channel.unary_unary(full_name("ServerLive")).future(b"", timeout=WAIT_S)
        failed = threading.Event()
        channel.subscribe(
            lambda state: failed.set() if state == grpc.ChannelConnectivity.TRANSIENT_FAILURE else None
        )
        assert failed.wait(WAIT_S)
        with serving_grpc(port=port):
            assert call.result() == b"\x08\x01"


def test_channels_above_the_limit_are_refused():
    with serving_grpc(max_connections=3) as one:
        channels = [grpc.insecure_channel(one.address, [("number", number)]) for number in range(5)]
        answered = 0
        for channel in channels:
            try:
                answered += bool(channel.unary_unary(full_name("ServerLive"))(b"", timeout=5))
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert answered == 3
        for channel in channels:
            channel.close()


def test_many_idle_channels_cost_no_threads():
    async def crowd(address):
        channels = [grpc.aio.insecure_channel(address, [("number", number)]) for number in range(100)]
        calls = (one.unary_unary(full_name("ServerLive"))(b"", timeout=WAIT_S) for one in channels)
        answers = await asyncio.gather(*calls)
        before = threading.active_count()
        for channel in channels:
            await channel.close()
        return answers, before

    with serving_grpc(max_connections=200) as one:
        before = threading.active_count()
        answers, during = asyncio.run(crowd(one.address))
        assert answers == [b"\x08\x01"] * 100
        assert during <= before + 1
        assert infer(one, tensors())


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::1"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::1"),
        ("unix:", ""),
        ("unix:path", ""),
    ],
)
def test_the_address_of_a_peer(peer, address):
    assert address_of(peer) == address


def test_calls_that_came_just_before_the_stop_are_answered():
    with serving_grpc(threads=1) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        assert call(pictures(b"1").SerializeToString(), timeout=WAIT_S)
        futures = [call.future(pictures(b"2").SerializeToString(), timeout=WAIT_S) for _ in range(30)]
        one.server.stop(WAIT_S)
        assert all(future.result() for future in futures)


def test_a_stream_that_stays_open_ends_when_the_server_stops():
    with serving_grpc() as one, grpc.insecure_channel(one.address) as channel:
        never = threading.Event()

        def messages():
            yield pictures(b"x").SerializeToString()
            never.wait(WAIT_S)

        answers = channel.stream_stream(full_name("ModelStreamInfer"))(messages())
        assert next(answers)
        one.server.stop(WAIT_S)
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        never.set()
        assert (caught.value.code().name, "open the stream again" in caught.value.details()) == (
            "UNAVAILABLE",
            True,
        )
        wait_until(lambda: not one.server.running)


def test_clients_that_ask_again_and_again_lose_no_call_when_the_server_stops():
    with serving_grpc(threads=2) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        ends, answered = [], []

        def ask_again():
            try:
                while True:
                    answered.append(call(pictures(b"x").SerializeToString(), timeout=WAIT_S))
            except grpc.RpcError as error:
                ends.append(error.code().name)

        clients = [threading.Thread(target=ask_again) for _ in range(8)]
        for client in clients:
            client.start()
        wait_until(lambda: len(answered) > 100)
        one.server.stop(WAIT_S)
        for client in clients:
            client.join(WAIT_S)
        assert ends == ["UNAVAILABLE"] * 8  # nobody listens: none was cut off


def test_a_client_that_reads_no_answers_is_not_computed_for_without_end():
    pool = Stuck()
    pool.go.set()
    with serving_grpc(pool, queue_size=10_000) as one, grpc.insecure_channel(one.address) as channel:
        many = [pictures(*[b"x"] * 1000).SerializeToString()] * 2000  # answers of 24 kB
        answers = channel.stream_stream(full_name("ModelStreamInfer"))(iter(many), timeout=WAIT_S)
        assert pool.inside.acquire(timeout=WAIT_S)
        before = -1
        while before != len(pool.seen):  # until no more is computed
            before = len(pool.seen)
            time.sleep(0.3)
        assert before < 1000
        assert infer(one, pictures(b"x"))
        answers.cancel()
        wait_until(lambda: one.transport.budget.held == 0)


def test_calls_that_are_over_are_freed_without_the_garbage_collector(served):
    def left():
        return [one for one in gc.get_objects() if isinstance(one, OpenCall | GrpcCall)]

    gc.disable()
    try:
        for _ in range(3):
            infer(served, tensors())
            assert refused(served, tensors("nothing"))
            assert stream(served, pictures(b"x", id="1"), pictures(b"x", id="2"))
            assert refusal(served.address, "ModelMetadata", b"")
        wait_until(lambda: not left())
    finally:
        gc.enable()


def test_calls_that_are_cancelled_at_once_cost_nothing():
    with serving_grpc(threads=1) as one, grpc.insecure_channel(one.address) as channel:
        call = channel.unary_unary(full_name("ModelInfer"))
        for _ in range(300):
            call.future(pictures(bytes(2000)).SerializeToString(), timeout=WAIT_S).cancel()
        assert infer(one, pictures(b"x"))
        wait_until(lambda: one.transport.budget.held == 0)
        assert infer(one, tensors())


def test_channels_that_are_used_are_counted(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(module, "_CHANNEL_USED_S", 1.0)
    with serving_grpc() as one:
        channels = [
            grpc.insecure_channel(one.address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(3)
        ]

        def used():
            for channel, method in zip(
                channels, ("ServerMetadata", "ServerMetadata", "ServerLive"), strict=True
            ):
                channel.unary_unary(full_name(method))(b"", timeout=WAIT_S)
            return 2 in one.channels

        wait_until(used)
        wait_until(lambda: one.channels[-1] == 0)
        assert max(one.channels) == 2  # a health check is no use
        for channel in channels:
            channel.close()
