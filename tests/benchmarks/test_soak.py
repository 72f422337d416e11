"""A short soak: right answers to all of the mix, no worker lost, memory about where it was."""

from __future__ import annotations

from collections import Counter

from benchmarks.fixtures.request_mix import mix, send_all
from benchmarks.soak import soak
from tests.conftest import ROOT
from tests.servers import free_port, serving


def test_three_hundred_good_and_bad_requests(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.soak._SETTLE_S", 0.5)
    images = data_dir / "images"
    pictures = [images / name for name in ("bee.jpeg", "zebra.jpeg", "orange.png", "parrot.jpg")]
    port = free_port()
    arguments = ("--model-repository", str(ROOT / "ir_models"), "--workers", "1", "--threads", "2")
    arguments += ("--grpc-port", str(port))
    with serving(tmp_path / "log", *arguments) as server:
        found = soak(
            server.process.pid,
            server.port,
            "digits",
            pictures,
            sorted((images / "bad").iterdir()),
            requests=300,
            warm_up=150,
            connections=4,
            grpc_port=port,
            grpc_share=0.5,
        )
        assert {"gRPC photo", "photo"} <= found["answers"].keys()
        assert found["wrong"] == []
        assert found["workers_kept"]
        assert max(found["growth"].values()) < 0.25, found
        assert "Traceback" not in server.text()
        kinds = mix("127.0.0.1", server.port, "digits", pictures[:1], [])
        statuses = Counter()
        for request in kinds:  # each kind is what it says, also alone
            seen = send_all("127.0.0.1", server.port, [request], 1, 1, seed=0)
            assert not seen.wrong
            for count in seen.answers.values():
                statuses.update(count)
        assert {"200", "400", "404", "413", "414", "501", "hung up"} <= set(statuses)
