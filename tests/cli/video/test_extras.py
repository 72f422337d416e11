"""A package of an extra that is not installed ends a command of video with 4, and is named."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.video.made_cascade import write_cascade

WITHOUT = "import sys; sys.modules[sys.argv[1]] = None; from cpuserve.cli import main; main(sys.argv[2:])"


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("av", "video", ["infer", "clip.mp4", "--model", "digits"]),
        ("pyarrow.parquet", "parquet", ["infer", "clip.mp4", "--model", "digits", "-o", "rows.parquet"]),
        ("pyarrow.parquet", "parquet", ["train", "--scores", "scores.npz", "--parquet", "-o", "new"]),
        ("av", "video", ["train", "clip.mp4", "--reference", "digits", "--query", "8", "-o", "new"]),
        ("av", "video", ["run", "clip.mp4", "--cascade", "cascade", "-o", "labels.csv"]),
    ],
)
def test_it_is_named(data_dir, tmp_path, package, extra, words):
    (tmp_path / "clip.mp4").symlink_to(data_dir / "video" / "street_cars.mp4")
    (tmp_path / "cascade").mkdir()
    write_cascade(tmp_path / "cascade")
    options = [] if "--scores" in words else ["--model-repository", str(ROOT / "ir_models")]
    command = [sys.executable, "-c", WITHOUT, package, "video", *words, *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert done.stderr.endswith(f"pip install 'cpuserve[{extra}]'\n")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "cascade"}
