"""`cpuserve cutpoints` and `cpuserve cut` as they are typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture
def repository(tmp_path):
    shutil.copytree(ROOT / "ir_models" / "digits", tmp_path / "digits")
    return tmp_path


def run(repository, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "cpuserve", *words, "--model-repository", str(repository)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_list_cut_and_answer(repository):
    points = json.loads(run(repository, "cutpoints", "digits", "--json"))
    head, tail = points[3]["name"], points[-2]["name"]
    words = run(repository, "cut", "digits", "--name", "parts", "--input", head, "--output", tail, "--quiet")
    assert words == ""
    picture = str(ROOT / "docs" / "seven.png")
    answers = [
        json.loads(run(repository, "predict", name, picture, "--json")) for name in ("digits", "parts")
    ]
    assert [answer["predictions"][0]["label"] for answer in answers] == ["7", "7"]
    assert "parts" in run(repository, "models")


def test_the_table_of_points_is_one_line_a_tensor(repository):
    shown = run(repository, "cutpoints", "digits/1")
    assert "image" in shown
    assert "[-1,96,96,3]" in shown


def test_reports_for_people_and_for_programs(repository):
    point = json.loads(run(repository, "cutpoints", "digits", "--json"))[-2]["name"]
    cut = ("cut", "digits", "--name", "parts", "--output", point, "--images", str(ROOT / "docs"))
    shown = run(repository, *cut)
    assert "parts/1 published" in shown
    assert "against the whole in f32 on 1 pictures" in shown
    report = json.loads(run(repository, *cut, "--json"))
    assert (report["name"], report["version"], report["tail"]["run"]) == ("parts", 2, "ir")
    (agreed,) = report["report"]["parity"]["outputs"].values()
    assert agreed["top1_agreement"] == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["digits", "--name", "parts"], "cut where?"),
        (["digits", "--name", "parts", "--output", "imagee"], "no tensor 'imagee'; did you mean image"),
        (
            ["digits", "--name", "parts", "--output", "image", "--tail", "what"],
            "no way to run a head or tail",
        ),
        (
            ["digitz", "--name", "parts", "--output", "image"],
            "there is no file digitz, and .* did you mean digits",
        ),
        (["digits", "--name", "parts", "--output", "image", "--images", "tests/cli"], "no picture in it"),
        (["digits", "--name", "parts", "--output", "image", "--images", "nowhere"], "does not exist"),
    ],
)
def test_wrong_words_end_with_2(repository, words, why):
    import re

    assert re.search(why, run(repository, "cut", *words, code=2))
    assert [entry.name for entry in repository.iterdir()] == ["digits"]


def test_a_damaged_picture_is_named(repository):
    bad = repository.parent / "bad.png"
    bad.write_bytes(b"no picture")
    said = run(repository, "cut", "digits", "--name", "parts", "--input", "31", "--images", str(bad), code=1)
    assert "bad.png: " in said
