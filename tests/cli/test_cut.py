"""`cpuserve cutpoints` and `cpuserve cut` as they are typed."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from cpuserve.cli import main
from cpuserve.models.example_model import EXAMPLE_PICTURE
from tests.conftest import ROOT

pytestmark = pytest.mark.numeric


@pytest.fixture
def repository(tmp_path):
    shutil.copytree(ROOT / "ir_models" / "digits", tmp_path / "digits")
    return tmp_path


@pytest.fixture
def run(repository, capsysbinary):
    """Runs a command in this process; what it printed, or its error."""

    def command(*words, code=0):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--model-repository", str(repository)])
        said = capsysbinary.readouterr()
        assert ended.value.code == code, said.err
        return (said.err if code else said.out).decode()

    return command


def test_list_cut_and_answer(repository, run):
    points = json.loads(run("cutpoints", "digits", "--json"))
    head, tail = points[3]["name"], points[-2]["name"]
    words = run("cut", "digits", "--name", "parts", "--input", head, "--output", tail, "--quiet")
    assert words == ""
    picture = str(ROOT / "docs" / "seven.png")
    answers = [json.loads(run("predict", name, picture, "--json")) for name in ("digits", "parts")]
    assert [answer["predictions"][0]["label"] for answer in answers] == ["7", "7"]
    assert "parts" in run("models")


def test_the_table_of_points_is_one_line_a_tensor(repository, run):
    shown = run("cutpoints", "digits/1")
    assert "image" in shown
    assert "[-1,96,96,3]" in shown


def test_reports_for_people_and_for_programs(repository, run):
    point = json.loads(run("cutpoints", "digits", "--json"))[-2]["name"]
    cut = ("cut", "digits", "--name", "parts", "--output", point, "--images", str(EXAMPLE_PICTURE.parent))
    shown = run(*cut)
    assert "parts/1 published" in shown
    assert "against the whole in f32 on 1 picture:" in shown
    report = json.loads(run(*cut, "--json"))
    assert (report["name"], report["version"], report["tail"]["run"]) == ("parts", 2, "ir")
    (agreed,) = report["report"]["parity"]["outputs"].values()
    assert agreed["top1_agreement"] == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["digits", "--name", "parts"], "cpuserve cutpoints lists them"),
        (["digits", "--name", "parts", "--output", "imagee"], "no tensor 'imagee'; did you mean image"),
        (
            ["digits", "--name", "parts", "--output", "image", "--tail", "what"],
            "cannot run a head or tail",
        ),
        (
            ["digitz", "--name", "parts", "--output", "image"],
            "there is no file digitz, and .* did you mean digits",
        ),
        (
            ["digits", "--name", "parts", "--output", "image", "--images", "tests/cli"],
            "tests/cli has no picture",
        ),
        (["digits", "--name", "parts", "--output", "image", "--images", "nowhere"], "does not exist"),
    ],
)
def test_wrong_words_end_with_2(repository, run, words, why):
    assert re.search(why, run("cut", *words, code=2))
    assert [entry.name for entry in repository.iterdir()] == ["digits"]


def test_a_damaged_picture_is_named(repository, run):
    bad = repository.parent / "bad.png"
    bad.write_bytes(b"no picture")
    said = run("cut", "digits", "--name", "parts", "--input", "31", "--images", str(bad), code=1)
    assert "bad.png: " in said
