"""What `cpuserve video mask` is made of: the engine of its comments, and the package that reads videos."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

from tests.conftest import ROOT


def test_the_engine_of_the_comments_is_the_one_whose_origin_is_told():
    page = (ROOT / "docs" / "video-mask.md").read_text()
    told = dict(re.findall(r"^\| `(danmaku\.[\w.]+)` \| `([0-9a-f]{64})` \|$", page, re.MULTILINE))
    folder = ROOT / "cpuserve" / "video" / "templates"
    there = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("danmaku.*")}
    assert told == there
    assert len(there) == 2


def test_without_pyav_the_extra_is_named(tmp_path):
    hidden = "import sys; sys.modules['av'] = None; from cpuserve.cli import main; main(sys.argv[1:])"
    words = ["video", "mask", "a.mp4", "--model", "m", "-o", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", hidden, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "pip install 'cpuserve[video]'" in done.stderr
    assert "Traceback" not in done.stderr
