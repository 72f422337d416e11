"""Writes docs/results/fuzz.json from what runs printed: `python -m tests.fuzz.record FILE...`.

Targets of which no run is given stay as the file has them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from cpuserve.measuring.results import write_result

OUT = Path(__file__).parent.parent.parent / "docs" / "results" / "fuzz.json"

# By target: who found it, what happened, and which test holds it now.
FINDINGS: dict[str, list[tuple[str, str, str]]] = {
    "wire": [
        (
            "the fuzzer",
            "true and false as data of UINT64 overflowed a comparison: 500",
            "tests/protocols/test_v2_body.py::test_truth_values_are_numbers_of_any_width",
        ),
        (
            "writing the target",
            "Inference-Header-Content-Length of a superscript digit or of 5000 digits: 500",
            "tests/protocols/test_v2_body.py::test_a_wrong_header_length_is_refused",
        ),
        (
            "writing the target",
            '"outputs" that is no list, shapes no array can have, base64 beyond ASCII: 500',
            "tests/protocols/test_v2_body.py::test_what_is_wrong_is_named",
        ),
        (
            "writing the target",
            "one long text among numbers took its length in memory for each of them; an output asked for a "
            "thousand times was sent as often; numbers too large became infinite",
            "tests/protocols/test_v2_body.py::test_one_long_text_among_many_numbers_takes_no_memory_for_each_of_them",
        ),
    ],
    "grpc": [],
    "connection": [
        (
            "the fuzzer",
            "a head with an error before its 101st line was refused by 400 or 431, by how it was cut",
            "tests/http/test_head.py::test_what_is_wrong_first_counts_however_the_message_is_cut",
        ),
    ],
    "headers": [
        (
            "writing the target",
            "X-Request-Timeout-Ms or -Priority of 5000 digits ended the connection without an answer",
            "tests/http/test_connection.py::test_urgency",
        ),
        (
            "writing the target",
            "a form of too many parts or too long a field: 500",
            "tests/protocols/test_predictions.py::test_forms_that_are_refused",
        ),
        (
            "the fuzzer",
            "forms that broke off left their files open, and large ones were written to disk",
            "tests/protocols/test_predictions.py::test_a_large_file_is_not_written_to_disk",
        ),
    ],
    "image": [
        (
            "the fuzzer",
            "a PNG of 900 bytes with a chunk that promises 4 GiB took 4 GiB and 17 s before it was refused; "
            "the next run found the same of the last chunk",
            "tests/serving/test_picture_header.py::test_a_png_cannot_promise_more_than_it_brings",
        ),
        (
            "trying sizes by hand after that",
            "a TIFF of 460 bytes, 30x20 pixels in tiles of 8192x8192, took 256 MiB",
            "tests/serving/test_picture_header.py::test_a_small_tiff_cannot_have_huge_tiles",
        ),
        (
            "writing the target",
            "a BigTIFF directory beyond any address: 500",
            "tests/serving/test_picture_header.py::test_a_directory_beyond_any_address_is_damage",
        ),
        (
            "writing the target",
            "a TIFF that says its size twice, or as a number that lies elsewhere, passed max_pixels with the "
            "small one and was decoded with the large one",
            "tests/serving/test_picture_header.py::test_a_tiff_cannot_say_one_size_here_and_another_to_the_decoder",
        ),
        (
            "changing chunks by hand",
            "an animated PNG of 310 bytes whose second frame has no right filter ended the process by "
            "SIGSEGV",
            "tests/serving/test_first_image.py::test_an_animated_png_is_decoded_as_if_it_were_still",
        ),
        (
            "reading the decoders",
            "JPEGs of a thousand scans, progressive or sequential, took a minute; empty segments of a JPEG, "
            "and strips and tiles of a TIFF that lie outside, had no limit",
            "tests/serving/test_decode.py::test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded",
        ),
    ],
}


ENDS = {
    "Done ": "time was up",
    "libFuzzer: out-of-memory": "finding",
    "libFuzzer: run interrupted": "interrupted",
    "libFuzzer: timeout": "interrupted",  # it was stopped from outside and took the pause for a slow input
}


def run(printed: str) -> dict[str, Any]:
    """What one run says of itself; without a last word its seconds follow from its last line of progress."""
    (target,) = set(re.findall(r"files found in \S*/(\w+)$", printed, re.MULTILINE))
    executions = int(re.findall(r"^stat::number_of_executed_units: (\d+)", printed, re.MULTILINE)[-1])
    done = re.findall(r"^Done \d+ runs in (\d+) second", printed, re.MULTILINE)
    if not done:
        count, rate = re.findall(r"^#(\d+)\t.* exec/s: (\d+) ", printed, re.MULTILINE)[-1]
        done = [round(int(count) / int(rate))]
    ended = next(
        end for words, end in ENDS.items() if re.search(rf"(^|ERROR: |== ){words}", printed, re.MULTILINE)
    )
    return {"target": target, "seconds": int(done[-1]), "executions": executions, "ended": ended}


def row(target: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs of one target together."""
    limit = " -max_len=20000" if target == "image" else ""
    return {
        "target": target,
        "command": f"python -W error -m tests.fuzz {target} -max_total_time=605{limit}",
        "seconds": sum(each["seconds"] for each in runs),
        "executions": sum(each["executions"] for each in runs),
        "runs": [{name: each[name] for name in ("seconds", "executions", "ended")} for each in runs],
        "findings": [{"found_by": who, "what": what, "test": test} for who, what, test in FINDINGS[target]],
    }


if __name__ == "__main__":
    by_target: dict[str, list[dict[str, Any]]] = {}
    for name in sys.argv[1:]:
        found = run(Path(name).read_text(errors="replace"))
        by_target.setdefault(found["target"], []).append(found)
    rows = {each["target"]: each for each in json.loads(OUT.read_text())["targets"]} if OUT.is_file() else {}
    rows |= {target: row(target, runs) for target, runs in by_target.items()}
    command = ["python", "-m", "tests.fuzz.record", *sys.argv[1:]]
    write_result(
        OUT, command, {"fuzzer": "atheris 3.0.0", "targets": [rows[target] for target in sorted(rows)]}
    )
