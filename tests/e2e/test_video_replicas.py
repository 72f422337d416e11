"""Frames of a real clip, answered by real servers: as a local model does, also when one is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from itertools import islice
from typing import Any

import numpy as np
import pytest

from cpuserve.errors import CpuserveError
from cpuserve.settings import Settings
from cpuserve.video.decoding import frames
from cpuserve.video.frame_model import open_frame_model
from cpuserve.video.replicas import Replicas
from tests.servers import free_port, serving

EXACT = ("--precision", "f32", "--workers", "1", "--threads", "1")
MODELS = ("mobilenet_v2_1.0_224_quant", "deeplabv3_257_mv_gpu", "vww_96_int8")


@pytest.fixture(scope="module")
def settings(repository):
    return Settings(model_repository=repository, precision="f32")


def clip(data_dir, model, count):
    """Scaled frames, with the size of the whole ones."""
    scale = model.scale
    for frame in islice(frames(data_dir / "video" / "street_cars.mp4"), count):
        yield frame.scaled(scale).copy(), frame.width, frame.height


def test_raw_frames_get_the_answers_of_a_local_model(data_dir, repository, settings, tmp_path):
    port = free_port()
    arguments = (*MODELS, "--model-repository", str(repository), *EXACT, "--grpc_port", str(port))
    with serving(tmp_path / "log", *arguments) as server:
        urls = (f"http://127.0.0.1:{server.port}", f"grpc://127.0.0.1:{port}")
        for name in MODELS:
            with open_frame_model(name, settings, threads=1) as local:
                for url in urls:
                    check_frames(local, url, name, data_dir)


def check_frames(local, url, name, data_dir):
    """A server's answers to raw frames are those of the model here, in all that they say."""
    with Replicas([url], name) as replicas:
        assert replicas.scale == local.scale
        assert (replicas.version, replicas.checksum) == (local.version, local.checksum)
        for one in clip(data_dir, local, 6):
            wanted = local.submit_seen(*one).result()
            seen = replicas.submit_seen(*one).result()
            assert json.dumps(seen.answer) == json.dumps(wanted.answer)
            assert np.array_equal(seen.mask, wanted.mask)
            assert (seen.mask is None) == (wanted.mask is None)
            assert json.dumps(replicas.answer(*one)) == json.dumps(wanted.answer)
        if "predictions" in wanted.answer:
            assert replicas.answer(*one, topk=1) == local.answer(*one, topk=1)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_killed_replica_loses_no_frame(data_dir, repository, settings, tmp_path, scheme):
    name, count, ports = "vww_96_int8", 180, (free_port(), free_port())
    arguments = (name, "--model-repository", str(repository), *EXACT, "--grpc_port")
    with (
        serving(tmp_path / "a", *arguments, str(ports[0])) as first,
        serving(tmp_path / "b", *arguments, str(ports[1])) as second,
        open_frame_model(name, settings, threads=1) as local,
    ):
        if scheme == "http":
            ports = (first.port, second.port)
        urls = [f"{scheme}://127.0.0.1:{port}" for port in ports]
        sent: list[Future[dict[str, Any]]] = []
        expected = []
        with Replicas(urls, name) as replicas:
            for number, one in enumerate(clip(data_dir, local, count)):
                sent.append(replicas.submit(*one))
                expected.append(local.answer(*one))
                if number == count // 3:
                    os.killpg(second.process.pid, signal.SIGKILL)
            found = [answer.result(120) for answer in sent]
            report = {one["url"]: one for one in replicas.report()["replicas"]}
        second.process.wait()
    assert len(found) == count
    assert found == expected
    killed = report[urls[1]]
    assert killed["frames"] > 0
    assert killed["failures"] > 0
    assert sum(one["frames"] for one in report.values()) == count


def test_a_server_with_keys_takes_them_over_http_and_grpc(data_dir, repository, settings, tmp_path):
    name, port = "vww_96_int8", free_port()
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    keys.chmod(0o600)
    arguments = (name, "--model-repository", str(repository), *EXACT, "--grpc_port", str(port))
    with serving(tmp_path / "log", *arguments, "--api-key-file", str(keys)) as server:
        for url in (f"http://127.0.0.1:{server.port}", f"grpc://127.0.0.1:{port}"):
            with Replicas([url], name, api_key="secret") as replicas:
                for one in clip(data_dir, replicas, 2):
                    assert replicas.answer(*one)["model"] == name
            with pytest.raises(CpuserveError, match=r"(401|UNAUTHENTICATED): .*API key"):
                Replicas([url], name, api_key="wrong")


def test_video_infer_writes_the_same_file_when_a_replica_is_killed(data_dir, repository, tmp_path):
    name, clips = "deeplabv3_257_mv_gpu", data_dir / "video"
    command = [sys.executable, "-m", "cpuserve", "video", "infer", str(clips / "street_cars.mp4")]
    command += ["--model", name, "--every", "12", "-o"]
    arguments = (name, "--model-repository", str(repository), *EXACT)
    far, near = tmp_path / "far.jsonl", tmp_path / "near.jsonl"
    with serving(tmp_path / "a", *arguments) as first, serving(tmp_path / "b", *arguments) as second:
        urls = [f"http://127.0.0.1:{one.port}" for one in (first, second)]
        # without the model on this machine
        more = ["--replicas", ",".join(urls), "--json", "--model-repository", str(tmp_path / "none")]
        with subprocess.Popen([*command, str(far), *more], stdout=subprocess.PIPE) as run:
            second.wait_until(lambda: far.exists() and far.read_bytes().count(b"\n") > 20, "answering")
            os.killpg(second.process.pid, signal.SIGKILL)
            summary = json.loads(run.communicate(timeout=300)[0])
        assert run.returncode == 0
        second.process.wait()
    local = ["--model-repository", str(repository), "--precision", "f32"]
    assert subprocess.run([*command, str(near), *local], check=False).returncode == 0
    assert far.read_bytes() == near.read_bytes()
    lives, killed = summary["reference"]["replicas"]
    assert killed["failures"] > 0
    assert lives["frames"] + killed["frames"] == summary["frames"] == near.read_bytes().count(b"\n")
