"""gRPC, spoken by the client NVIDIA ships: the same answers as over HTTP, and nothing of it where off."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import ovmsclient
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tritonclient import grpc as triton
from tritonclient import http as triton_http
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from cpuserve.grpc.messages import message_class
from tests.conftest import ROOT
from tests.grpc.running import refusal
from tests.servers import free_port, serving

WAIT_S = 60
IMAGE, ANSWER = "image", "probabilities"


@pytest.fixture(scope="module")
def served(digits, tmp_path_factory):
    """A server with two workers; its gRPC port is ``grpc_port``."""
    port = free_port()
    log = tmp_path_factory.mktemp("grpc") / "log"
    words = ("--model-repository", str(digits), "--workers", "2", "--grpc-port", str(port))
    with serving(log, *words, ready=2) as server:
        server.grpc_port = port
        yield server


@pytest.fixture
def client(served):
    made = triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def photo():
    return (ROOT / "docs" / "seven.png").read_bytes()


def picture(content, module=triton):
    made = module.InferInput(IMAGE, [1], "BYTES")
    made.set_data_from_numpy(np.array([content], dtype=object))
    return [made]


def tensor(module=triton, rows=3):
    values = np.random.default_rng(1).random((rows, 96, 96, 3), np.float32) * 255
    made = module.InferInput(IMAGE, list(values.shape), "FP32")
    made.set_data_from_numpy(values)
    return [made]


def raw(answer):
    return answer.as_numpy(ANSWER).tobytes()


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("form", ["picture", "tensor"])
def test_answers_are_those_of_http_to_the_byte(client, served, photo, form, classes):
    http = triton_http.InferenceServerClient(f"127.0.0.1:{served.port}")
    inputs = {
        module: picture(photo, module) if form == "picture" else tensor(module)
        for module in (triton, triton_http)
    }
    answers = []
    for made, module in ((client, triton), (http, triton_http)):
        outputs = [module.InferRequestedOutput(ANSWER, class_count=classes)]
        answers.append(made.infer("digits", inputs[module], outputs=outputs, request_id="7"))
    http.close()
    over_grpc, over_http = (answer.as_numpy(ANSWER) for answer in answers)
    assert over_grpc.shape == over_http.shape
    assert over_grpc.tolist() == over_http.tolist()
    assert answers[0].get_response().id == "7"


def test_health_metadata_and_configuration_are_those_of_http(client, served):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert [
        client.is_model_ready(*words) for words in (("digits",), ("digits", "1"), ("digits", "9"), ("no",))
    ] == [
        True,
        True,
        False,
        False,
    ]
    http = triton_http.InferenceServerClient(f"127.0.0.1:{served.port}")
    assert client.get_server_metadata(as_json=True) == http.get_server_metadata()
    ours, theirs = client.get_model_metadata("digits"), http.get_model_metadata("digits")
    assert (ours.name, list(ours.versions), ours.platform) == ("digits", ["1"], "OpenVINO")
    for kind in ("inputs", "outputs"):
        shown = [
            {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
            for one in getattr(ours, kind)
        ]
        assert shown == theirs[kind]
    config, of_http = client.get_model_config("digits").config, http.get_model_config("digits")
    assert (config.max_batch_size, config.backend) == (of_http["max_batch_size"], "openvino")
    assert list(config.input[0].dims) == of_http["input"][0]["dims"]
    assert {name: one.string_value for name, one in config.parameters.items()} == {
        name: one["string_value"] for name, one in of_http["parameters"].items()
    }
    http.close()


def test_statistics_count_the_requests_of_both_transports(client, served, photo):
    before = client.get_inference_statistics("digits").model_stats[0]
    client.infer("digits", picture(photo))
    served.post("/v2/models/digits/infer", photo, **{"Inference-Header-Content-Length": "0"})
    after = client.get_inference_statistics("digits").model_stats[0]
    assert after.inference_count == before.inference_count + 2
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    everything = client.get_inference_statistics().model_stats
    assert [(one.name, one.version) for one in everything] == [("digits", "1")]


def counted(served):
    """The samples of /metrics that tell the transports apart, by name, interface or code, and bucket."""
    found = {}
    for family in text_string_to_metric_families(served.get("/metrics").body.decode()):
        for sample in family.samples:
            key = sample.labels.get("interface") or sample.labels.get("code")
            if key is not None:
                found[sample.name, key, sample.labels.get("le")] = sample.value
    return found


def test_metrics_tell_the_transports_apart(client, served, photo):
    before = counted(served)
    for _ in range(3):
        client.infer("digits", picture(photo))
    served.post("/v2/models/digits/infer", photo, **{"Inference-Header-Content-Length": "0"})
    bad = picture(b"no picture")
    with pytest.raises(InferenceServerException):
        client.infer("digits", bad)
    with pytest.raises(InferenceServerException):
        client.infer("nothing", bad)
    after = counted(served)
    changed = {key: value - before[key] for key, value in after.items() if value != before[key]}
    assert {key[:2]: value for key, value in changed.items() if key[2] is None and "sum" not in key[0]} == {
        ("ovms_requests_success_total", "gRPC"): 3,
        ("ovms_requests_success_total", "REST"): 1,
        ("ovms_requests_fail_total", "gRPC"): 1,
        ("ovms_request_time_us_count", "gRPC"): 3,
        ("ovms_request_time_us_count", "REST"): 1,
        ("cpuserve_grpc_answers_total", "OK"): 3,
        ("cpuserve_grpc_answers_total", "INVALID_ARGUMENT"): 1,
        ("cpuserve_grpc_answers_total", "NOT_FOUND"): 1,
    }
    assert changed["ovms_request_time_us_bucket", "gRPC", "+Inf"] == 3
    assert (
        changed["ovms_request_time_us_sum", "gRPC", None]
        > changed["ovms_request_time_us_sum", "REST", None] / 10
    )


def test_models_are_unloaded_and_loaded_in_all_workers(client, served):
    client.unload_model("digits")
    assert not client.is_model_ready("digits")
    assert [(one.name, one.state) for one in client.get_model_repository_index().models] == [
        ("digits", "UNAVAILABLE")
    ]
    client.load_model("digits")
    assert client.is_model_ready("digits")
    assert served.get("/v2/models/digits/ready").status == 200
    with pytest.raises(InferenceServerException, match="unknown key") as caught:
        client.load_model("digits", config='{"max_batch_size": 1}')
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("nothing")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize("choice", [{"bool_param": True}, {"int64_param": 5}, {"bytes_param": b"{}"}])
def test_a_configuration_that_is_no_text_is_refused(served, choice):
    message = message_class("inference.RepositoryModelLoadRequest")(
        model_name="digits", parameters={"config": choice}
    )
    code, text = refusal(f"127.0.0.1:{served.grpc_port}", "RepositoryModelLoad", message.SerializeToString())
    assert (code, "config" in text) == ("INVALID_ARGUMENT", True)


def test_log_and_trace_settings_are_those_of_http(client, served):
    assert (
        client.update_log_settings({"log_verbose_level": 1}).settings["log_verbose_level"].uint32_param == 1
    )
    assert served.get("/v2/logging").json()["log_verbose_level"] == 1
    client.update_log_settings({"log_verbose_level": 0})
    with pytest.raises(InferenceServerException, match="log_file can only be"):
        client.update_log_settings({"log_file": "x"})
    found = client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
    assert list(found.settings["trace_level"].value) == ["TIMESTAMPS"]
    assert served.get("/v2/trace/setting").json()["trace_level"] == ["TIMESTAMPS"]
    client.update_trace_settings(settings={"trace_level": None, "trace_rate": None})
    assert list(client.get_trace_settings().settings["trace_level"].value) == ["OFF"]
    with pytest.raises(InferenceServerException, match=r"UNIMPLEMENTED.*traces by model"):
        client.get_trace_settings("digits")


def test_a_trace_is_asked_for_by_metadata(client, served, photo):
    reply = client._client_stub.ModelInfer.with_call(
        triton._utils._get_inference_request(
            "digits", picture(photo), "", "", None, 0, False, False, 0, None, None
        ),
        metadata=(("x-cpuserve-trace", "1"),),
    )[1]
    name = dict(reply.trailing_metadata())["x-cpuserve-trace"]
    trace = served.get(f"/v2/trace/requests/{name}").json()
    assert trace["status"] == 200
    assert {"decode", "infer"} <= {stage for stage, *_ in trace["stages"]}


def test_a_stream_is_answered_in_its_order(client, photo):
    found = queue.Queue()
    client.start_stream(lambda result, error: found.put((result, error)))
    for number in range(50):
        client.async_stream_infer("digits", picture(photo), request_id=str(number))
    answers = [found.get(timeout=WAIT_S) for _ in range(50)]
    assert [(result.get_response().id, error) for result, error in answers] == [
        (str(number), None) for number in range(50)
    ]
    client.async_stream_infer("nothing", picture(photo))
    result, error = found.get(timeout=WAIT_S)
    assert (result, "there is no model 'nothing'" in str(error)) == (None, True)
    client.stop_stream()


def test_the_asynchronous_client(served, photo):
    async def ask():
        async with aio.InferenceServerClient(f"127.0.0.1:{served.grpc_port}") as made:
            return await asyncio.gather(*(made.infer("digits", picture(photo)) for _ in range(20)))

    answers = asyncio.run(ask())
    assert len({raw(answer) for answer in answers}) == 1
    assert answers[0].as_numpy(ANSWER).argmax() == 7


def test_another_server_cannot_take_the_port(served, digits):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "cpuserve", "serve", "--port", str(free_port())),
            *("--grpc-port", str(served.grpc_port), "--model-repository", str(digits)),
        ],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert run.returncode
    assert f"grpc_port {served.grpc_port} of 127.0.0.1 cannot be used: Address already in use" in run.stderr


def test_reload_and_the_end_lose_no_request(digits, photo, tmp_path):
    port = free_port()
    words = ("--model-repository", str(digits), "--workers", "1", "--grpc-port", str(port))
    lost, answered, stop = [], [], threading.Event()

    def load():
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as made:
            while not stop.is_set():
                try:
                    answered.append(raw(made.infer("digits", picture(photo))))
                except InferenceServerException as error:
                    lost.append(str(error))

    with serving(tmp_path / "log", *words) as server:
        clients = [threading.Thread(target=load) for _ in range(3)]
        for one in clients:
            one.start()
        server.wait_until(lambda: len(answered) > 20, "answered")
        before = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.settle(1, gone=before)
        count = len(answered)
        server.wait_until(lambda: len(answered) > count + 20, "answered by the new worker")
        stop.set()
        for one in clients:
            one.join(WAIT_S)
        assert (lost, len(set(answered))) == ([], 1)
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def test_requests_that_are_here_are_answered_at_sigterm(digits, photo, tmp_path):
    port = free_port()
    words = ("--model-repository", str(digits), "--workers", "1", "--threads", "1", "--grpc-port", str(port))
    with serving(tmp_path / "log", *words) as server:
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as made:
            found = queue.Queue()
            for _ in range(30):
                made.async_infer("digits", tensor(rows=4), lambda result, error: found.put((result, error)))
            first = found.get(timeout=WAIT_S)
            server.process.send_signal(signal.SIGTERM)
            answers = [first, *(found.get(timeout=WAIT_S) for _ in range(29))]
        errors = [str(error) for _, error in answers if error is not None]
        assert [
            error for error in errors if "UNAVAILABLE" not in error
        ] == []  # those that had not come by then
        assert len({raw(result) for result, error in answers if error is None}) == 1
        assert server.process.wait(WAIT_S) == 0


def sockets(pid):
    """How many sockets a process listens on, by the kernel."""
    lines = (
        line.split()
        for family in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()
    )
    listening = {f"socket:[{words[9]}]" for words in lines if words[3] == "0A"}
    return len(listening & {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()})


def threads(pid):
    return sorted(Path(f"{task}/comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir())


def test_where_it_is_off_nothing_of_it_is_there(served, digits, tmp_path):
    def libraries(pid):
        return re.findall(r"/(cygrpc|_upb|_message)\b", Path(f"/proc/{pid}/maps").read_text())

    with serving(tmp_path / "log", "--model-repository", str(digits), "--workers", "1") as server:
        (worker,) = server.workers()
        assert server.get("/v2/models/digits").status == 200
        assert (libraries(worker), sockets(worker)) == ([], 1)
        off = threads(worker)
        assert not [name for name in off if "grpc" in name or "event_engine" in name]
    on = served.workers()[0]
    assert (set(libraries(on)) >= {"cygrpc"}, sockets(on)) == (True, 2)
    assert "grpc" in threads(on)
    assert not libraries(served.process.pid)  # the arbiter starts nothing
    assert len(threads(served.process.pid)) == 1


def test_in_the_words_of_kserves_runtime(digits, photo, tmp_path):
    rest, port = free_port(), free_port()
    words = (
        *("--model_name=seven", f"--model_path={digits / 'digits'}", f"--port={port}", f"--rest_port={rest}"),
        "--file_system_poll_wait_seconds=0",
    )
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cpuserve", "serve", *words], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as made:
            made._client_stub.ServerReady(
                triton.service_pb2.ServerReadyRequest(), wait_for_ready=True, timeout=WAIT_S
            )
            assert made.infer("seven", picture(photo)).as_numpy(ANSWER).argmax() == 7
    finally:
        process.terminate()
        assert process.wait(WAIT_S) == 0


def test_ovmsclient_and_the_health_service(served, photo):
    client = ovmsclient.make_grpc_client(f"127.0.0.1:{served.grpc_port}")
    found = client.predict({IMAGE: [photo, photo]}, "digits", timeout=WAIT_S)
    assert found.argmax(axis=1).tolist() == [7, 7]
    assert client.get_model_status("digits", timeout=WAIT_S)[1]["state"] == "AVAILABLE"
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def with_memory(digits, tmp_path_factory):
    """A server with two workers that uses shared memory."""
    port = free_port()
    words = ("--model-repository", str(digits), "--workers", "2", "--grpc-port", str(port))
    log = tmp_path_factory.mktemp("memory") / "log"
    with serving(log, *words, "--shared-memory-prefix", "cputest_", ready=2) as server:
        server.grpc_port = port
        yield server


@pytest.mark.parametrize("module", [triton, triton_http])
def test_tensors_in_shared_memory(with_memory, module):
    port = with_memory.grpc_port if module is triton else with_memory.port
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    values = np.random.default_rng(1).random((3, 96, 96, 3), np.float32) * 255
    memory = shm.create_shared_memory_region("both", f"/cputest_{port}", values.nbytes + 120)
    try:
        shm.set_shared_memory_region(memory, [values])
        client.register_system_shared_memory("both", f"/cputest_{port}", values.nbytes + 120)
        status = client.get_system_shared_memory_status(**({"as_json": True} if module is triton else {}))
        assert "both" in str(status)
        made = module.InferInput(IMAGE, [3, 96, 96, 3], "FP32")
        made.set_shared_memory("both", values.nbytes)
        wanted = module.InferRequestedOutput(ANSWER)
        wanted.set_shared_memory("both", 120, values.nbytes)
        for _ in range(8):  # whichever worker answers
            client.infer("digits", [made], outputs=[wanted])
        found = shm.get_contents_as_numpy(memory, np.float32, [3, 10], offset=values.nbytes)
        plain = client.infer("digits", tensor(module))
        assert found.tolist() == plain.as_numpy(ANSWER).tolist()
        assert with_memory.post("/v2/systemsharedmemory/region/a/b/register", b"{}").status == 404
        client.unregister_system_shared_memory("both")
        with pytest.raises(InferenceServerException, match="no shared memory region"):
            client.infer("digits", [made])
    finally:
        shm.destroy_shared_memory_region(memory)
    client.close()


@pytest.mark.parametrize("module", [triton, triton_http])
def test_requests_that_are_repeated_have_the_values_that_are_there(with_memory, module, photo):
    port = with_memory.grpc_port if module is triton else with_memory.port
    key = f"/cputest_again_{port}"
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    memory = shm.create_shared_memory_region("again", key, 1 << 20)
    encoded = np.frombuffer(len(photo).to_bytes(4, "little") + photo, np.uint8)
    try:
        client.register_system_shared_memory("again", key, 1 << 20)
        numbers = module.InferInput(IMAGE, [2, 96, 96, 3], "FP32")
        pictures = module.InferInput(IMAGE, [1], "BYTES")
        numbers.set_shared_memory("again", 4 * 2 * 96 * 96 * 3)
        pictures.set_shared_memory("again", encoded.nbytes)
        for seed in range(6):
            values = np.random.default_rng(seed).random((2, 96, 96, 3), np.float32) * 255
            shm.set_shared_memory_region(memory, [values])
            sent = module.InferInput(IMAGE, list(values.shape), "FP32")
            sent.set_data_from_numpy(values)
            assert raw(client.infer("digits", [numbers])) == raw(client.infer("digits", [sent]))
            shm.set_shared_memory_region(memory, [encoded])
            assert client.infer("digits", [pictures]).as_numpy(ANSWER).argmax() == 7
        file = Path(f"/dev/shm{key}")  # noqa: S108
        file.unlink()  # without unregistering it
        for _ in range(4):
            with pytest.raises(InferenceServerException, match="cannot be opened"):
                client.infer("digits", [numbers])
        with_memory.wait_until(lambda: not _opened(with_memory, key), "the memory is let go")
        file.touch()
    finally:
        client.unregister_system_shared_memory("again")
        shm.destroy_shared_memory_region(memory)
    client.close()


@pytest.mark.parametrize("module", [triton, triton_http])
def test_of_cuda_there_is_nothing_to_list_or_forget(with_memory, module):
    port = with_memory.grpc_port if module is triton else with_memory.port
    with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert not getattr(client.get_cuda_shared_memory_status(), "regions", None)
        with pytest.raises(InferenceServerException, match="no CUDA shared memory region 'r'"):
            client.get_cuda_shared_memory_status("r")
        client.unregister_cuda_shared_memory()
        client.unregister_cuda_shared_memory("r")
        with pytest.raises(InferenceServerException, match="CUDA"):
            client.register_cuda_shared_memory("r", b"AAAA", 0, 8)


def _opened(server, key):
    """How often the workers have the memory open."""
    links = [link for pid in server.workers() for link in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(key in os.path.realpath(link) for link in links)


def test_without_the_setting_there_is_no_shared_memory(client, served):
    with pytest.raises(InferenceServerException) as caught:
        client.register_system_shared_memory("x", "/x", 10)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    assert served.get("/v2/systemsharedmemory/status").status == 501
