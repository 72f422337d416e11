"""`cpuserve video run` as a user calls it, with a model of the repository."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cpuserve.cli import cli
from cpuserve.errors import UsageError
from cpuserve.settings import Settings
from cpuserve.video.cascade_choice import Choice
from cpuserve.video.cascade_file import Cascade, ReferenceModel
from cpuserve.video.frame_model import open_frame_model
from cpuserve.video.label_file import LABEL_COLUMNS
from cpuserve.video.run_history import read_observed
from cpuserve.video.run_metrics import RUN_METRICS
from tests.conftest import ROOT
from tests.video.small_cascade import write_small_cascade

MODELS = ROOT / "ir_models"
DOCS = (ROOT / "docs" / "video-run.md").read_text()
STATUS = re.compile(r"who decided: .*")


@pytest.fixture
def cascade(tmp_path):
    """A cascade whose reference is the model of the repository."""
    folder = tmp_path / "cascade"
    folder.mkdir()
    made = write_small_cascade(folder, Choice(every=5, detector="global:10", delta=20.0))
    with open_frame_model("digits", Settings(model_repository=MODELS)) as model:
        reference = ReferenceModel(model.name, int(model.version), model.checksum, model.scale)
    replace(made, query="8", reference=reference).save(folder)
    return folder


def run(cascade, *words):
    words = ["video", "run", *map(str, words), "--cascade", str(cascade)]
    return CliRunner().invoke(cli, [*words, "--model-repository", str(MODELS)])


def test_a_video_is_labelled_and_what_was_promised_and_observed_is_said(data_dir, tmp_path, cascade):
    out, metrics = tmp_path / "labels.csv", tmp_path / "run.prom"
    clip = data_dir / "video" / "street_cars.mp4"
    done = run(cascade, clip, "-o", out, "--audit", "0.05", "--metrics-file", metrics)
    assert done.exit_code in (0, 3), done.output
    assert "905 frames in" in done.stdout
    assert "decided by: skipped 7" in done.stdout
    assert "promised: at most 0.93% of windows missed" in done.stdout
    assert "observed in frames: fn: " in done.stdout
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(905))
    assert list(rows[0]) == list(LABEL_COLUMNS)
    skipped = sum(row["status"] == "skipped" for row in rows)
    assert f'cpuserve_video_frames_total{{stage="skipped"}} {skipped}.0' in metrics.read_text()
    again = run(cascade, clip, "-o", out, "--resume", "--audit", "0.05", "--json")
    [kept] = read_observed(cascade)
    assert (kept.videos, kept.frames) == ((str(clip),), 905)
    summary = json.loads(again.stdout)
    assert (summary["frames"], summary["frames_before"]) == (0, 905)
    assert summary["promised"]["fn_bound"] == 0.0093
    assert json.loads(run(cascade, clip, "-o", tmp_path / "x.csv", "--json").stdout)["cpu_ms_per_frame"] > 0.3
    assert summary["observed"]["fn"]["checked"] + summary["observed"]["fp"]["checked"] == summary["audited"]


def test_a_killed_run_goes_on(data_dir, tmp_path, cascade):
    clip, out = data_dir / "video" / "street_cars.mp4", tmp_path / "labels.csv"
    words = [sys.executable, "-m", "cpuserve", "video", "run", str(clip), "--cascade", str(cascade)]
    words += ["--model-repository", str(MODELS), "--quiet", "-o"]
    assert subprocess.run([*words, str(tmp_path / "whole.csv")], check=False).returncode in (0, 3)
    with subprocess.Popen([*words, str(out)]) as process:
        while not out.exists() or out.stat().st_size < 8_000:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert len(out.read_bytes()) < len((tmp_path / "whole.csv").read_bytes())
    assert subprocess.run([*words, str(out), "--resume"], check=False).returncode in (0, 3)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_video_that_cannot_be_read_is_said(data_dir, tmp_path, cascade):
    bad = tmp_path / "empty.mp4"
    bad.touch()
    done = run(cascade, bad, "-o", tmp_path / "labels.csv")
    assert done.exit_code == 1
    assert "empty.mp4" in done.stderr


def test_a_cascade_of_another_model_is_refused(data_dir, tmp_path, cascade):
    file = cascade / "cascade.toml"
    file.write_text(file.read_text().replace('checksum = "', 'checksum = "00'))
    clip = data_dir / "video" / "street_cars.mp4"
    done = run(cascade, clip, "-o", tmp_path / "labels.csv")
    assert isinstance(done.exception, UsageError)
    assert "model digits is not the digits version 1 that the cascade was trained with" in str(done.exception)


def test_a_class_that_the_model_does_not_have_is_refused(data_dir, tmp_path, cascade):
    replace(Cascade.load(cascade), query="eight").save(cascade)
    done = run(cascade, data_dir / "video" / "street_cars.mp4", "-o", tmp_path / "labels.csv")
    assert isinstance(done.exception, UsageError)
    assert "the model has no class 'eight'" in str(done.exception)


def test_every_column_and_metric_is_documented():
    for name, words in LABEL_COLUMNS.items():
        assert f"| `{name}` | {words} |" in STATUS.sub(lambda found: found[0].replace("`", ""), DOCS)
    for name, (label, words) in RUN_METRICS.items():
        assert f"| `{name}` | {f'`{label}` ' if label else ''}| {words} |" in DOCS


def test_the_reference_is_asked_about_every_frame(data_dir, tmp_path, cascade):
    out: Path = tmp_path / "truth.jsonl"
    done = run(cascade, data_dir / "video" / "street_cars.mp4", "-o", out, "--every-frame", "--json")
    assert json.loads(done.stdout)["shares"]["reference"] == 1
    assert {json.loads(line)["status"] for line in out.read_text().splitlines()} == {"reference"}
