"""Runs sample scripts of Triton and OpenVINO Model Server, and compares what they print with HTTP's answers.

Run as ``python -m benchmarks.grpc_samples --samples DIR [--packages DIR] [--quick] [--out FILE]``. DIR
holds the repositories ``client`` (of triton-inference-server) and ``model_server`` (of openvinotoolkit) as
``git clone`` makes them. The other DIR holds packages that scripts import and this project does not:
tensorflow, tensorflow_serving, attrdict.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fixtures.sample_models import write_sample_models
from benchmarks.fixtures.sample_scripts import SCRIPTS, Sample, Served
from cpuserve.measuring.local_server import free_port, started_server
from cpuserve.measuring.results import write_result

__all__ = ["compared", "main"]

_WAIT_S = 120
_MOST_SAID = 200
_COMMON = "model_server/demos/common/python"


def main() -> None:
    """Run every script that is there; exits with 1 when one fails that lacks nothing, or none is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=Path, required=True, metavar="DIR")
    parser.add_argument("--packages", type=Path, metavar="DIR")
    parser.add_argument("--picture", type=Path, default=Path("docs/seven.png"))
    parser.add_argument("--quick", action="store_true", help="each script once, by its first arguments")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    samples = given.samples.resolve()
    # reversed, the first arguments of a script are written last
    chosen = list({one.path: one for one in reversed(SCRIPTS)}.values())[::-1] if given.quick else SCRIPTS
    there = [one for one in chosen if (samples / one.path).is_file()]
    missing = sorted({one.path for one in chosen if one not in there})
    with tempfile.TemporaryDirectory(prefix="cpuserve-samples-") as text:
        folder, port = Path(text), free_port()
        write_sample_models(folder / "models")
        words = ("--model-repository", str(folder / "models"), "--grpc-port", str(port))
        with started_server(*words, "--shared-memory-prefix", "input,output") as local:
            served = _served(local.port, port, samples, folder, given.picture)
            rows = [compared(one, served, samples, given.packages) for one in there]
    table = Table("script", "arguments", "exit", "as over HTTP", "said")
    for row in rows:
        said = row["lacks"] or row["said"]
        table.add_row(Path(row["script"]).name, row["arguments"], str(row["exit"]), str(row["equal"]), said)
    console = Console()
    console.print(table)
    if missing:
        console.print(f"not in {given.samples}: {', '.join(missing)}")
    if given.out:
        command = ["python", "-m", "benchmarks.grpc_samples", *sys.argv[1:]]
        write_result(given.out, command, {"scripts": rows, "missing": missing})
    sys.exit(not rows or not all(row["equal"] or row["lacks"] for row in rows))


def _served(http: int, grpc: int, samples: Path, folder: Path, picture: Path) -> Served:
    """The files that scripts read, and where they ask."""
    pictures = folder / "pictures"
    pictures.mkdir()
    copy = Path(shutil.copy(picture, pictures))
    listed, tensors = folder / "listed.txt", folder / "tensors.npy"
    listed.write_text(f"{copy} 0\n")
    values = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3)).astype(np.float32)
    values *= np.linspace(0.2, 1, 4, dtype=np.float32)[:, None, None, None]
    np.save(tensors, values)
    np.save(folder / "planes.npy", np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
    files = (copy, pictures, listed, tensors, folder / "planes.npy")
    return Served(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", *files, _labels(samples))


def _labels(samples: Path) -> Callable[[int], str]:
    """The labels of OpenVINO Model Server's scripts, which stand in a module beside them."""
    file = samples / _COMMON / "classes.py"
    if not file.is_file():
        return str
    (assigned,) = (one for one in ast.parse(file.read_text()).body if isinstance(one, ast.Assign))
    found: dict[int, str] = ast.literal_eval(assigned.value)
    return found.__getitem__


def compared(sample: Sample, served: Served, samples: Path, packages: Path | None) -> dict[str, Any]:
    """Run a script, and look for the answers of HTTP in what it prints.

    Args:
        sample: the script.
        served: what it asks.
        samples: the directory of the repositories.
        packages: a directory of packages for the script; None for none.

    Returns:
        Its path, arguments, exit status (None: it did not end), whether it printed what HTTP answers, what it
        needs that is not here, and what was compared or is wrong.
    """
    status, printed, failed = _run(sample, sample.words, served, samples, packages)
    lines = (printed if sample.ends or not status else failed or printed).strip().splitlines() or [""]
    row = {"script": sample.path, "arguments": sample.words, "exit": status}
    wrong = right = ""
    if status != 0:
        wrong = "it did not end in time" if status is None else lines[-1]
    elif sample.ends and lines[-1] != sample.ends:
        wrong = f"its last line is not {sample.ends!r}"
    elif sample.twin:
        _, other, _ = _run(sample, sample.twin, served, samples, packages)
        wrong = "" if printed == other else f"over HTTP it prints {other[-_MOST_SAID:]!r}"
        right = f"{len(lines)} lines, all as over HTTP"
    else:
        pieces = list(sample.pieces(served))
        wrong = _left_out(pieces, printed)
        right = f"{len(pieces)} texts made of HTTP's answers" if pieces else ""
    said = wrong[-_MOST_SAID:] or "; ".join(word for word in (right, sample.ends) if word)
    for folder in (samples, served.pictures.parent):
        said = said.replace(str(folder), "")
    return {**row, "equal": not wrong, "lacks": sample.lacks, "said": said}


def _left_out(pieces: Iterable[str], printed: str) -> str:
    """Says which piece is the first that was not printed after those before it; empty where all were."""
    at = 0
    for piece in pieces:
        found = printed.find(piece, at)
        if found < 0:
            return f"it does not print {piece!r}"
        at = found + len(piece)
    return ""


def _run(
    sample: Sample, words: str, served: Served, samples: Path, packages: Path | None
) -> tuple[int | None, str, str]:
    """The exit status of a script, and what it printed to both outputs."""
    host, _, port = served.grpc.rpartition(":")
    values = {**vars(served), "host": host, "port": port}
    arguments: Sequence[str] = [word.format(**values) for word in words.split()]
    script = samples / sample.path
    paths = [samples / _COMMON, *([packages.resolve()] if packages else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    try:
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=script.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_WAIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, "", ""
    return done.returncode, done.stdout, done.stderr


if __name__ == "__main__":
    main()
