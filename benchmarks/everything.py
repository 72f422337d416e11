"""Runs the benchmarks whose results are kept, one after the other, each in its own process.

Run as ``make bench`` or
``python -m benchmarks.everything --model-repository DIR --model NAME --images DIR [--only FILE ...]``.
What takes hours, other programs or a data set of its own is not among them: docs/bench.md says how it is run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cpuserve.measuring.pictures import pictures

__all__ = ["main", "runs"]

_MODULE = (sys.executable, "-m")
_UNSTABLE = 3  # `cpuserve bench serve`: a load never became stable; the file says which


def runs(repository: Path, model: str, folder: Path, files: Sequence[Path]) -> dict[str, list[str]]:
    """The commands by the file each writes, without ``--out``.

    Args:
        repository: of models.
        model: takes pictures and tensors.
        folder: of the pictures.
        files: the pictures in it.
    """
    where = ["--model-repository", str(repository)]
    photos, one = ["--images", str(folder)], ["--image", str(files[0])]
    named = [*where, "--model", model]
    jpegs = [str(file) for file in files if file.suffix.lower() in (".jpg", ".jpeg")]
    bad = folder / "bad"
    found = {
        "serve.json": ["cpuserve", "bench", "serve", model, *where, *photos],
        "tensors.json": [
            *("cpuserve", "bench", "serve", model, *where),
            *("--protocol", "tensors", "--concurrency-range", "1:16:x4"),
        ],
        "ceiling.json": ["cpuserve", "bench", "ceiling", model, *where, *photos],
        "http-only.json": ["benchmarks.http_only"],
        "worker-shape.json": ["benchmarks.shapes", *named, *one, "--seconds", "3"],
        "coalescing.json": ["benchmarks.coalescing", *named, *photos],
        "tails.json": ["benchmarks.tails", *named, *photos],
        "overload.json": ["benchmarks.overload", *named, *one],
        "decoding.json": ["benchmarks.decoding", "--images", *jpegs],
        "shrinking.json": ["benchmarks.shrinking", *named, *photos],
        "reload.json": ["cpuserve", "test-reload", model, str(files[0]), *where],
        "instructions.json": ["benchmarks.instructions", "--processes", "3"],
        "access-log.json": ["benchmarks.access_log"],
    }
    if bad.is_dir():
        found["soak.json"] = ["benchmarks.soak", *named, "--pictures", str(folder)]
    if not jpegs:
        del found["decoding.json"]
    return found


def main() -> None:
    """Run them all, or those named; ends with 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--images", type=Path, help="directory of photos; without it a picture is made")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="where the files go")
    parser.add_argument("--only", nargs="+", metavar="FILE", help="these files only, such as tails.json")
    parser.add_argument("--list", action="store_true", help="print the commands and run none")
    given = parser.parse_args()
    with pictures(given.images) as sent:
        chosen = runs(given.model_repository, given.model, sent.files[0].parent, sent.files)
        unknown = [name for name in given.only or () if name not in chosen]
        if unknown:
            parser.error(f"--only {unknown[0]}: there are {', '.join(chosen)}")
        chosen = {name: words for name, words in chosen.items() if not given.only or name in given.only}
        if given.list:
            for name, words in chosen.items():
                sys.stdout.write(f"{name}: {' '.join(words)}\n")
            return
        given.results.mkdir(parents=True, exist_ok=True)
        ended = {name: _run(words, given.results / name) for name, words in chosen.items()}
    table = Table("file", "seconds", "")
    for name, (code, seconds) in ended.items():
        table.add_row(
            name, f"{seconds:.0f}", {0: "done", _UNSTABLE: "unstable"}.get(code, f"failed ({code})")
        )
    Console().print(table)
    sys.exit(any(code not in (0, _UNSTABLE) for code, _ in ended.values()))


def _run(words: Sequence[str], out: Path) -> tuple[int, float]:
    """Exit code and seconds of one; what it prints is shown."""
    began = time.monotonic()
    Console().print(f"\n{out.name}: {' '.join(words)}", style="bold", markup=False)
    done = subprocess.run([*_MODULE, *words, "--out", str(out)], check=False)
    return done.returncode, time.monotonic() - began


if __name__ == "__main__":
    main()
