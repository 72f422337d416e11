"""`cpuserve pull` as the user meets it: exit codes, words, and what is in the repository afterwards."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cpuserve.cli import main
from cpuserve.models.repository import Repository
from tests.conftest import ROOT

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No mirror, no cache and no settings of the user's, and no way out of this machine."""
    for variable in ("CPUSERVE_MIRROR", "CPUSERVE_MODEL_REPOSITORY", "CPUSERVE_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    connect = socket.create_connection

    def only_here(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        assert address[0] == "127.0.0.1", f"a test reached for {address}"
        return connect(address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", only_here)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in ("pull", *words)])
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture
def mirror(data_dir: Path) -> Path:
    return data_dir / "models"


@pytest.fixture
def mirror_url(mirror: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    handler = functools.partial(Quiet, directory=str(mirror))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_model_is_pulled_into_the_default_repository(run: Run, mirror: Path, tmp_path: Path):
    code, out, err = run("vww_96_int8", "--mirror", mirror)
    assert (code, err) == (0, "")
    assert out == "vww_96_int8/1 published: ir_models/vww_96_int8/1/model.xml (Apache-2.0)\n"
    assert everything(tmp_path) == ["ir_models/vww_96_int8/1/model.bin", "ir_models/vww_96_int8/1/model.xml"]


def test_what_is_there_already_is_left_alone(run: Run, mirror: Path, tmp_path: Path):
    run("vww_96_int8", "--mirror", mirror)
    xml = tmp_path / "ir_models" / "vww_96_int8" / "1" / "model.xml"
    before = xml.stat().st_ino
    code, out, _ = run("vww_96_int8")
    assert (code, out) == (
        0,
        "vww_96_int8/1 is already there: ir_models/vww_96_int8/1/model.xml (Apache-2.0)\n",
    )
    assert xml.stat().st_ino == before
    code, out, _ = run("vww_96_int8", "--mirror", mirror, "--force", "--json")
    assert (code, json.loads(out)["status"]) == (0, "published")
    assert xml.stat().st_ino != before


def test_a_mirror_may_be_a_url_and_come_from_the_environment(
    run: Run, mirror_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CPUSERVE_MIRROR", mirror_url)
    monkeypatch.setenv("CPUSERVE_MODEL_REPOSITORY", str(tmp_path / "elsewhere"))
    code, out, err = run("mobilenet_v1", "vww_96_int8", "mobilenet_v1_0.25_128_quant", "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["name"] for line in lines] == ["mobilenet_v1_0.25_128_quant", "vww_96_int8"]
    assert lines[0] == {
        "name": "mobilenet_v1_0.25_128_quant",
        "version": 1,
        "status": "published",
        "path": str(tmp_path / "elsewhere" / "mobilenet_v1_0.25_128_quant" / "1" / "model.xml"),
        "licence": "Apache-2.0",
    }
    assert '"Egyptian cat' in Path(lines[0]["path"]).read_text().replace("&quot;", '"')
    cached = everything(tmp_path / "cache" / "cpuserve")
    assert [name.split("-", 1)[1] for name in cached] == [
        "vww_96_int8.tflite",
        "imagenet_labels_1001.txt",
        "mobilenet_v1_0.25_128_quant.tflite",
    ]


def test_quiet_says_nothing(run: Run, mirror: Path):
    assert run("vww_96_int8", "--mirror", mirror, "--quiet") == (0, "", "")


def test_a_wrong_file_is_refused_and_nothing_is_left(run: Run, tmp_path: Path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "vww_96_int8.tflite").write_bytes(b"another")
    code, out, err = run("vww_96_int8", "--mirror", tmp_path / "mirror")
    assert (code, out) == (1, "")
    assert err.startswith("cpuserve: error: ")
    assert "sha256 expected 597a384c8c2c8a12" in err
    assert everything(tmp_path) == ["mirror/vww_96_int8.tflite"]


def test_an_unknown_name_is_a_wrong_word_and_nothing_is_pulled(run: Run, mirror: Path, tmp_path: Path):
    code, out, err = run("vww_96_int8", "mobilnet_v2", "--mirror", mirror)
    assert (code, out) == (2, "")
    assert "did you mean mobilenet_v2" in err
    assert everything(tmp_path) == []


def test_no_name_at_all_lists_the_catalogue(run: Run):
    assert run() == run("--list")
    assert run("--json") == run("--list", "--json")


def test_the_model_that_comes_along_is_copied(run: Run, tmp_path: Path):
    code, out, _ = run("digits")
    assert (code, out) == (0, "digits/1 published: ir_models/digits/1/model.xml (Apache-2.0)\n")
    again = tmp_path / "ir_models" / "digits" / "1"
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in (ROOT / "ir_models" / "digits" / "1").iterdir()
    }
    assert "is already there" in run("digits")[1]
    assert run("digits", "--force")[0] == 0


def test_a_model_is_published_under_another_name(run: Run, mirror: Path, tmp_path: Path):
    assert run("digits", "--as", "numbers")[0] == 0
    assert run("deeplabv3_257", "--mirror", mirror, "--as", "areas")[0] == 0
    assert Repository(tmp_path / "ir_models").names() == ["areas", "numbers"]
    code, _, err = run("digits", "mobilenet_v2", "--as", "x")
    assert code == 2
    assert "--as x names one model, and there are 2" in err
    code, _, err = run("digits", "--as", "no/name")
    assert code == 1
    assert "no/name" in err


def test_an_alias_names_the_model_from_then_on(run: Run, mirror: Path, tmp_path: Path):
    repository = Repository(tmp_path / "ir_models")
    run("vww_96", "--mirror", mirror)
    assert repository.find("vww_96").name == "vww_96_float"
    (tmp_path / "ir_models" / "vww_96_float" / "aliases").unlink()  # as an older version left it
    assert "is already there" in run("vww_96_float")[1]
    assert repository.find("vww_96").name == "vww_96_float"


def test_a_repository_that_takes_no_aliases_still_has_the_model(run: Run, mirror: Path, tmp_path: Path):
    run("vww_96", "--mirror", mirror)
    file = tmp_path / "ir_models" / "vww_96_float" / "aliases"
    file.unlink()
    file.mkdir()
    code, out, err = run("vww_96")
    assert (code, "is already there" in out) == (0, True)
    assert "cpuserve: note: vww_96_float has only this name: cannot write" in err


def test_a_file_that_is_in_mirrors_only_says_so(run: Run):
    code, _, err = run("mobilenet_v2_float")
    assert code == 1
    assert "mirrors only" in err
    assert "--mirror DIR" in err


def test_the_list_names_every_model(run: Run):
    code, out, _ = run("--list", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(rows) == 11
    assert (rows[0]["name"], rows[0]["url"]) == ("digits", None)
    assert rows[1]["name"] == "mobilenet_v2_1.0_224_quant"
    assert rows[1]["aliases"] == ["mobilenet_v2"]
    assert run("--list")[1].count("Apache-2.0") == 11


def test_help_has_an_example_and_loads_no_openvino():
    check = (
        "import sys; from cpuserve.cli import main\n"
        "try: main(['pull', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'openvino', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True).stdout
    assert "cpuserve pull mobilenet_v2 --mirror" in shown
