"""OpenVINO Model Server's ways to say what is served, with real models."""

from __future__ import annotations

import json
import shutil

import pytest
from tritonclient import grpc as triton

from tests.servers import free_port, serving

QUANT, FLOAT = "mobilenet_v2_1.0_224_quant", "mobilenet_v2_1.0_224_frozen"
OK = {"error_code": "OK", "error_message": ""}


def top(server, model, photo):
    got = server.post(f"/predictions/{model}", photo)
    assert got.status == 200, got.body
    return got.json()["predictions"][0]


def test_config_json(repository, data_dir, tmp_path):
    entries = [
        {"name": "floats", "base_path": str(repository / FLOAT), "nireq": 2, "batch_size": 2},
        {
            "name": "bytes",
            "base_path": str(repository / QUANT),
            "plugin_config": {"NUM_STREAMS": 7, "INFERENCE_PRECISION_HINT": "f32"},
            "target_device": "CPU",
        },
        {"name": "broken", "base_path": str(repository / FLOAT), "plugin_config": {"NO_SUCH_THING": 1}},
    ]
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_config_list": [{"config": entry} for entry in entries]}))
    photo = (data_dir / "images" / "zebra.jpeg").read_bytes()
    words = ("--config_path", str(config), "--workers", "1", "--cache_dir", str(tmp_path / "cache"))
    with serving(tmp_path / "log", *words) as server:
        for model in ("floats", "bytes"):
            assert top(server, model, photo)["label"] == "zebra"
        statuses = server.get("/v1/config").json()
        assert statuses["floats"]["model_version_status"] == [
            {"version": "1", "state": "AVAILABLE", "status": OK}
        ]
        assert list(statuses) == ["broken", "bytes", "floats"]
        (broken,) = statuses["broken"]["model_version_status"]
        assert (broken["state"], broken["status"]["error_code"]) == ("END", "UNKNOWN")
        assert "NO_SUCH_THING" in broken["status"]["error_message"]
        assert server.get("/v2/models/floats/config").json()["max_batch_size"] == 2
        assert "nireq is not used" in server.text()
        assert "NUM_STREAMS follow the worker's seat" in server.text()
        assert list((tmp_path / "cache").glob("*.blob"))


@pytest.mark.parametrize("layout", ["1/model.xml", "model.xml"])
def test_a_model_where_a_storage_initialiser_leaves_it(repository, data_dir, tmp_path, layout):
    target = tmp_path / "models" / layout
    target.parent.mkdir(parents=True)
    (source,) = (repository / FLOAT / "1").glob("*.xml")
    for ending in (".xml", ".bin"):
        shutil.copy(source.with_suffix(ending), target.with_suffix(ending))
    words = (f"--model_path={tmp_path / 'models'}", "--model_name=m", "--workers=1", "--target_device=CPU")
    with serving(tmp_path / "log", *words, "--file_system_poll_wait_seconds=0") as server:
        photo = (data_dir / "images" / "zebra.jpeg").read_bytes()
        assert top(server, "m", photo)["label"] == "zebra"
        assert list(server.get("/v1/config").json()) == ["m"]


def test_a_changed_config_json_is_followed(digits, tmp_path):
    config = tmp_path / "config.json"

    def write(*entries):
        listed = [{"config": {"base_path": str(digits / "digits"), **entry}} for entry in entries]
        config.write_text(json.dumps({"model_config_list": listed}))

    write({"name": "one"}, {"name": "two"})
    words = ("--config_path", str(config), "--workers", "2", "--file_system_poll_wait_seconds=0")
    with serving(tmp_path / "log", *words, ready=2) as server:
        assert server.post("/v1/config/reload", b"").status == 200
        write({"name": "two", "batch_size": 2}, {"name": "three"})
        changed = server.post("/v1/config/reload", b"")
        assert (changed.status, sorted(changed.json())) == (201, ["three", "two"])
        for _ in range(6):  # connections of their own, so that each worker is asked
            assert server.get("/v2/models/two/config").json()["max_batch_size"] == 2
            assert server.get("/v2/models/three/ready").status == 200
            assert server.get("/v2/models/one/ready").status == 404
        config.write_text("{")
        refused = server.post("/v1/config/reload", b"")
        assert (refused.status, "config.json is not JSON" in refused.json()["error"]) == (400, True)
        assert str(tmp_path) not in refused.json()["error"]
        assert server.get("/v2/models/two/ready").status == 200


def test_a_config_json_that_lists_no_model_yet_starts_a_server_that_takes_them(digits, tmp_path):
    config, port = tmp_path / "config.json", free_port()

    def write(*names):
        listed = [{"config": {"name": name, "base_path": str(digits / "digits")}} for name in names]
        config.write_text(json.dumps({"model_config_list": listed}))

    write()
    words = ("--config_path", str(config), "--workers", "2", "--file_system_poll_wait_seconds=0")
    with serving(tmp_path / "log", *words, "--grpc-port", str(port), ready=2) as server:
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        assert client.is_server_ready()
        assert server.get("/v2/health/ready").status == 200
        assert server.get("/v1/config").json() == {}
        write("one")
        client.load_model("one")
        assert client.is_model_ready("one")
        write("one", "two")
        assert server.post("/v2/repository/models/two/load", b"").status == 200
        assert server.get("/v2/models/two/ready").status == 200
        write()
        assert server.post("/v1/config/reload", b"").status == 201
        assert not client.is_model_ready("one")
        assert server.get("/v2/health/ready").status == 200
        client.close()
