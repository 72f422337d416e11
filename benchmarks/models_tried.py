"""Converts, serves and asks every model there is, and compares the answers with those of its own framework.

Run as ``python -m benchmarks.models_tried --data DIR [--cases DIR] [--wheels DIR] [--only TEXT] [--out FILE]
[--page FILE.md]``. DIR of ``--data`` has ``models`` and ``images``; ``--cases`` has model files; ``--wheels``
keeps what pip fetches. Each model is tried as `cpuserve convert FILE` makes it, without any other option, and
once more for each set of options that `known_models` has for it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fixtures.known_models import KnownModel, known
from benchmarks.fixtures.model_wheels import light_models, models_of_wheels
from benchmarks.fixtures.own_framework import PHOTO, RANDOM, own_rows
from benchmarks.fixtures.served_trials import Questions, Trial, TrialServers, crash_words, trial_servers
from cpuserve.authoring.source import input_shapes
from cpuserve.measuring.results import write_result
from cpuserve.models.quantisation import Dequantise

__all__ = ["lines", "main", "try_model"]

_NAME, _PHOTO = "tried", "people2.jpeg"
_CONVERT_S = 600.0
_ENDINGS = (".onnx", ".tflite", ".pb", ".pdmodel", ".jit", ".pt2")


def main() -> None:
    """Try all models, print what is wrong, and write the result file and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, help="directory of further models")
    parser.add_argument("--wheels", type=Path, help="directory to keep fetched wheels in")
    parser.add_argument(
        "--only",
        nargs="*",
        default=("",),
        help="parts of SOURCE/FILE of the models to try; the rows of others in --out stay",
    )
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--page", type=Path, help="Markdown with a place for the table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as served:
        wheels = given.wheels or Path(folder)
        wheels.mkdir(parents=True, exist_ok=True)
        photo = given.data / "images" / _PHOTO
        files = list(_files(given.data, given.cases, wheels))
        order = [(source, file.name) for source, file in files]
        rows = json.loads(given.out.read_text())["models"] if given.out and given.out.is_file() else []
        faults = 0
        with trial_servers(Path(served)) as servers:
            for source, file in files:
                if not any(part in f"{source}/{file.name}" for part in given.only):
                    continue
                model = known(source, file.name)
                trials = [
                    try_model(servers, source, file, options, photo, model)
                    for options in ((), *model.options)
                ]
                rows = _merged(rows, [vars(trial) for trial in trials], order)
                for trial in trials:
                    _say(trial)
                    faults += bool(trial.faults)
                if given.out:  # now, so that an end before the end loses nothing
                    command = ["python", "-m", "benchmarks.models_tried", *sys.argv[1:]]
                    write_result(given.out, command, {"models": rows})
    if given.page:
        before, _, rest = given.page.read_text().partition("<!-- models -->\n")
        after = rest.partition("<!-- end -->")[2]
        given.page.write_text("\n".join([before + "<!-- models -->", *lines(rows), "<!-- end -->" + after]))
    sys.exit(1 if faults else 0)


def _merged(
    kept: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
    files: Sequence[tuple[str, str]],
) -> list[Mapping[str, Any]]:
    """The new rows and those of other files, in the order of the files."""
    tried = {(row["source"], row["file"]) for row in new}
    rows = [*new, *(row for row in kept if (row["source"], row["file"]) not in tried)]
    order = {file: place for place, file in enumerate(files)}
    there = [row for row in rows if (row["source"], row["file"]) in order]
    return sorted(there, key=lambda row: order[row["source"], row["file"]])


def try_model(
    servers: TrialServers, source: str, file: Path, options: Sequence[str], photo: Path, model: KnownModel
) -> Trial:
    """Convert, serve and ask one model.

    Args:
        servers: to serve it.
        source: where it comes from.
        file: the model.
        options: of `cpuserve convert`.
        photo: to ask with.
        model: what is known of it.
    """
    trial = Trial(source, file.name, model.kind, list(options), note=model.unjudged)
    report = _convert(file, options, servers.repository, trial)
    if report is None:
        return trial
    shapes = [word for option, word in itertools.pairwise(options) if option == "--input"]
    asked = (str(file), {name: str(shape) for name, shape in input_shapes(shapes).items()}, ())
    how = [
        Dequantise(**said) if (said := report["dequantised"].get(name)) else None
        for name in (port.split(" ")[0] for port in report["outputs"])
    ]
    trial.framework, rows, reason = own_rows(asked, Path(report["path"]), how, photo)
    if reason:
        trial.framework = f"{trial.framework} {reason}".strip()
    questions = Questions(rows, photo, model, report, trial, _NAME)
    for precision, server in servers.by_precision.items():
        before = len(servers.said()[precision])
        if not trial.unserved:
            questions.ask(server, precision)
        trial.faults += crash_words(servers.said()[precision][before:])
    shutil.rmtree(servers.repository / _NAME)
    return trial


def _files(data: Path, cases: Path | None, wheels: Path) -> Iterator[tuple[str, Path]]:
    folders = {"data": data / "models"} | ({"cases": cases} if cases else {})
    for source, folder in folders.items():
        yield from ((source, file) for file in sorted(folder.rglob("*")) if file.suffix in _ENDINGS)
    for source, files in (models_of_wheels(wheels) | light_models()).items():
        yield from ((source, file) for file in files)


def _convert(file: Path, options: Sequence[str], folder: Path, trial: Trial) -> dict[str, Any] | None:
    """The report of `cpuserve convert`; None where it refused the model."""
    words = ["convert", str(file), "--name", _NAME, "--model-repository", str(folder), "--json", *options]
    words.append("--no-parity")  # the served model is compared, and on more rows
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cpuserve", *words],
            capture_output=True,
            text=True,
            timeout=_CONVERT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        trial.refused = "not done in time"
        trial.faults.append(f"convert was not done within {_CONVERT_S:g} s")
        return None
    if done.returncode == 0:
        report: dict[str, Any] = json.loads(done.stdout)
        return report
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    trial.refused = re.sub(r"^cpuserve: error: (OpenVINO \S+ cannot import \S+: )?", "", said[-1])
    if done.returncode < 0:
        trial.faults.append(f"convert was ended by signal {-done.returncode}")
    trial.faults += crash_words(done.stderr)
    return None


def _say(trial: Trial) -> None:
    done = "refused" if trial.refused else "not served" if trial.unserved else trial.answer
    options = f" {' '.join(trial.options)}" if trial.options else ""
    print(f"{trial.source}/{trial.file}{options}: {done}", flush=True)  # noqa: T201  # minutes pass
    for fault in trial.faults:
        print(f"  FAULT {fault}", flush=True)  # noqa: T201


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table for the page, in Markdown: a line a model and set of options."""
    found = [
        "| model | kind | converted | served | differs in f32 | answer to a photo | precision, differs |",
        "|---|---|---|---|---|---|---|",
    ]
    source = ""
    for row in rows:
        if row["source"] != source:
            source = row["source"]
            found.append(f"| **{source}** | | | | | | |")
        options = f" `{' '.join(row['options'])}`" if row["options"] else ""
        apart = {precision: _differences(row, precision) for precision in ("f32", "auto")}
        cells = [
            f"{row['file']}{options}",
            row["kind"],
            row["refused"] or "yes",
            row["unserved"] or ("" if row["refused"] else "yes"),
            "; ".join(word for word in (apart["f32"] or row["framework"], row["note"]) if word),
            row["answer"] + "".join(f"; **{fault}**" for fault in row["faults"]),
            f"{row['precision']} {apart['auto']}".strip() if row["precision"] != "f32" else "f32",
        ]
        found.append(f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |")
    refused = sum(bool(row["refused"]) for row in rows)
    wrong = sum(bool(row["faults"]) for row in rows)
    found += ["", f"{len(rows)} rows, {refused} not converted, {wrong} with a fault (in bold)."]
    return found


def _differences(row: Mapping[str, Any], precision: str) -> str:
    """The differences on random rows and on the photo."""
    found = (row["differences"].get(f"{data}, {precision}") for data in (RANDOM, PHOTO))
    return ", ".join(f"{value:.1g}" for value in found if value is not None)


if __name__ == "__main__":
    main()
