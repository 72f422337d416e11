"""The figures of the targets' table are those of the result files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

RUNS = ("rivals-640", "rivals-torchserve")
DOCS = Path(__file__).resolve().parents[2] / "docs"


def result(name: str) -> Any:
    return json.loads((DOCS / "results" / f"{name}.json").read_text())


def load(name: str, at: str = "c16") -> dict[str, dict[str, Any]]:
    return {peer: found["loads"][at] for peer, found in result(name)["peers"].items()}


def best(rows: dict[str, dict[str, Any]], figure: str) -> float:
    values = [row[figure] for peer, row in rows.items() if peer != "cpuserve"]
    return float(min(values) if figure == "cpu_times" else max(values))


def http(name: str, file: str = "http-only") -> float:
    servers = result(file)["servers"]
    return float(servers[name]["cpu_us"] / servers["gthread, the application"]["cpu_us"])


def over_ceiling(peer: str, name: str = "rivals-tensor") -> float:
    row = result(name)["peers"][peer]
    return float(row["loads"]["c16"]["cpu_ms"]["median"] / row["ceiling_cpu_ms"]["median"])


def beside(name: str, peer: str) -> float:
    return over_ceiling(peer, name) / over_ceiling("cpuserve", name)


def tails(layout: str, name: str = "tails") -> dict[str, float]:
    return dict(result(name)["layouts"][layout]["medians"])


def goodput() -> list[float]:
    return sorted(one["goodput_share"] for one in result("overload-xeon")["rounds"])


def grpc_us(way: str, name: str = "grpc-cpu") -> float:
    return float(result(name)["ways"][way]["cpu_us"])


def over_limit(name: str) -> float:
    """CPU of a picture over gRPC, over 1.15 times that over HTTP and what the transport alone takes."""
    over_grpc, over_http = grpc_us("gRPC, picture", name), grpc_us("HTTP, picture", name)
    return over_grpc / (1.15 * over_http + grpc_us("a stub, picture", name))


def in_memory(tensor: str, name: str = "grpc-cpu") -> float:
    """CPU beyond inference of a tensor in shared memory over gRPC, over that of one in HTTP's body."""
    alone, shared = grpc_us(f"inference alone, {tensor}", name), tensor.replace("tensor", "shared memory")
    return (grpc_us(f"gRPC, {shared}", name) - alone) / (grpc_us(f"HTTP, {tensor}", name) - alone)


def in_time_over_capacity(medians: dict[str, float]) -> float:
    return medians["cpu_ms_an_answer_in_time"] / medians["cpu_ms_an_answer_at_capacity"]


def by_turns(name: str, figure: str = "cpu_ratio") -> dict[str, float]:
    """Each other server's figure over ours, from windows by turns on the Xeon."""
    rows = result(f"paired-{name}-xeon")["summary"]
    return {peer: row[figure] for peer, row in rows.items() if peer not in ("cpuserve", "ceiling")}


def over_alone(peer: str) -> float:
    """CPU of a tensor request over that of inference alone, on the Xeon."""
    rows = result("paired-tensor-xeon")["summary"]
    return float(rows[peer]["cpu_ratio"] / rows["ceiling"]["cpu_ratio"])


FIGURES = {
    "Xeon: CPU-ms of mosec over ours": [lambda: by_turns("640")["mosec:nobatch"]],
    "Xeon: CPU-ms of Triton over ours": [lambda: by_turns("640")["triton"]],
    "Xeon: 1920x1080: CPU-ms": [lambda: min(by_turns("1080").values())],
    "Xeon: 1920x1080: our images/s": [lambda: 1 / max(by_turns("1080", "rps_ratio").values())],
    "Xeon: V2 binary tensors": [lambda: over_alone("cpuserve"), lambda: over_alone("triton")],
    "Xeon: CPU a request over": [lambda: result("ceiling-xeon")["cpu_ratio"]["median"]],
    "Xeon: images/s of 16 clients": [lambda: result("ceiling-xeon")["images_per_s_ratio"]["median"]],
    "Xeon: HTTP alone": [
        lambda: http("shared epoll, a stub", "http-only-xeon"),
        lambda: http("shared epoll, the application", "http-only-xeon"),
    ],
    "Xeon: video, 720 frames": [lambda: result("video-concurrency")["speed_ups"]["total"]],
    "Xeon: video, the same": [lambda: result("video-concurrency")["speed_ups"]["concurrency"]],
    "Xeon: replicas, error": [
        lambda: result("video-replicas")["runs"][0]["error"],
        lambda: result("video-replicas")["runs"][1]["error"],
    ],
    "Xeon: gRPC, CPU of a picture of 203 KB": [lambda: over_limit("grpc-cpu")],
    "Xeon: gRPC, CPU of a picture of 9.5 KB": [lambda: over_limit("grpc-cpu-small")],
    "Xeon: gRPC, CPU of Triton": [lambda: grpc_us("Triton, picture") / grpc_us("gRPC, twin")],
    "Xeon: gRPC, CPU of a tensor": [lambda: in_memory("tensor"), lambda: in_memory("large tensor")],
    "Xeon: gRPC for half": [
        lambda: result("overload-grpc-xeon")["medians"]["goodput_share"],
        lambda: in_time_over_capacity(result("overload-grpc-xeon")["medians"]),
    ],
    "EPYC with AVX-512: gRPC, CPU of a picture of 9.5 KB": [lambda: over_limit("grpc-cpu-small-epyc")],
    "EPYC with AVX-512: gRPC, CPU of a picture of 203 KB": [lambda: over_limit("grpc-cpu-epyc")],
    "EPYC with AVX-512: gRPC, CPU of Triton": [
        lambda: grpc_us("Triton, picture", "grpc-cpu-epyc") / grpc_us("gRPC, twin", "grpc-cpu-epyc")
    ],
    "EPYC with AVX-512: gRPC, CPU of a tensor": [
        lambda: in_memory("tensor", "grpc-cpu-small-epyc"),
        lambda: in_memory("large tensor", "grpc-cpu-small-epyc"),
    ],
    "EPYC with AVX-512: the same with two workers": [
        lambda: in_memory("tensor", "grpc-cpu-workers-epyc"),
        lambda: in_memory("large tensor", "grpc-cpu-workers-epyc"),
    ],
    "EPYC with AVX-512: gRPC for half": [
        lambda: result("overload-grpc-epyc")["medians"]["goodput_share"],
        lambda: in_time_over_capacity(result("overload-grpc-epyc")["medians"]),
    ],
    "CPU-ms of mosec over ours": [partial(beside, run, "mosec") for run in RUNS],
    "CPU-ms of Triton over ours": [partial(beside, run, "triton") for run in RUNS],
    "1920x1080: CPU-ms": [lambda: best(load("rivals-1080"), "cpu_times")],
    "1920x1080: our images/s": [lambda: 1 / best(load("rivals-1080"), "rps_times")],
    "V2 binary tensors": [lambda: over_ceiling("cpuserve"), lambda: over_ceiling("triton")],
    "CPU a request over": [lambda: result("ceiling")["cpu_ratio"]["median"]],
    "ResNet-50: CPU": [lambda: result("ceiling-resnet50")["cpu_ratio"]["median"]],
    "images/s of 16 clients": [lambda: result("ceiling")["images_per_s_ratio"]["median"]],
    "int8: CPU over": [lambda: result("ceiling-int8")["cpu_ratio"]["median"]],
    "p99 over p50": [lambda: tails("default")["p99_to_p50"]],
    "p99 at 70 % load": [
        lambda: tails("default")["rate_p99_to_service"],
        lambda: tails("default")["least_p99_to_service"],
    ],
    "Xeon: p99 over p50": [lambda: tails("default", "tails-xeon")["p99_to_p50"]],
    "Xeon: p99 at 70 % load": [
        lambda: tails("default", "tails-xeon")["rate_p99_to_service"],
        lambda: tails("default", "tails-xeon")["least_p99_to_service"],
    ],
    "Xeon: answers in time": [
        lambda: result("overload-xeon")["medians"]["goodput_share"],
        lambda: goodput()[0],
        lambda: goodput()[-1],
    ],
    "HTTP alone": [lambda: http("shared epoll, a stub"), lambda: http("shared epoll, the application")],
}


@pytest.mark.parametrize("target", FIGURES)
def test_a_figure_is_that_of_its_file(target):
    (line,) = [row for row in (DOCS / "bench.md").read_text().splitlines() if row.startswith(f"| {target}")]
    shown = [float(word) for word in re.findall(r"\d+\.\d+", line.split("|")[2])]
    assert shown == [pytest.approx(figure(), abs=0.0051) for figure in FIGURES[target]]


def decoding(size: str, kind: str) -> Callable[[str], float]:
    def read(end: str) -> float:
        (row,) = [row for row in result(f"decoding{end}")["rows"] if row["size"] == size]
        return float(row[f"{kind}_cpu_ms"])

    return read


BY_MACHINE: dict[str, tuple[str, Callable[[str], float]]] = {
    "images/s served": ("{:.0f}", lambda end: result(f"ceiling{end}")["served"]["images_per_s"]["median"]),
    "server CPU-ms a request": ("{:.1f}", lambda end: result(f"ceiling{end}")["served"]["cpu_ms"]["median"]),
    "CPU-ms without HTTP": ("{:.1f}", lambda end: result(f"ceiling{end}")["in_process"]["cpu_ms"]["median"]),
    "CPU-ms of decoding a JPEG of 640x480 at a fraction": ("{:.1f}", decoding("640x480", "fast")),
    "CPU-ms of decoding a JPEG of 1920x1080 at a fraction": ("{:.1f}", decoding("1920x1080", "fast")),
    "CPU-ms of decoding a JPEG of 1920x1080 in full": ("{:.1f}", decoding("1920x1080", "exact")),
    "µs CPU of a request without decoding and inference": (
        "{:.0f}",
        lambda end: result(f"http-only{end}")["servers"]["shared epoll, the application"]["cpu_us"],
    ),
}


@pytest.mark.parametrize("what", BY_MACHINE)
def test_a_figure_by_machine_is_that_of_both_files(what):
    form, read = BY_MACHINE[what]
    cells = " | ".join(form.format(read(end)) for end in ("", "-xeon"))
    assert f"| {what} | {cells} |" in (DOCS / "bench.md").read_text().splitlines()


def test_the_files_by_machine_are_of_the_machines_named():
    page = (DOCS / "bench.md").read_text()
    for name in ("ceiling", "decoding", "http-only"):
        for end in ("", "-xeon"):
            assert f"`{result(name + end)['machine']}`" in page, name + end


def test_the_targets_of_the_xeon_were_held():
    found = tails("default", "tails-xeon")
    assert found["rate_p99_to_service"] <= 1.5 * found["least_p99_to_service"]
    assert result("overload-xeon")["medians"]["goodput_share"] >= 0.90


def test_what_was_missed_is_told_with_the_figures_of_its_files():
    lines = (DOCS / "bench.md").read_text().splitlines()
    layouts = {
        "two workers": "default",
        "one worker, weights for each stream": "one worker",
        "one worker, shared weights": "one worker, shared weights",
    }
    for words, layout in layouts.items():
        found = tails(layout)
        figures = f"{found['rate_p99_to_service']:.2f} | {found['busy_cores']:.2f}"
        assert f"| {words} | {figures} | {found['capacity_per_s']:.0f} |" in lines
    (least,) = [line for line in lines if line.startswith("| least possible: ")]
    assert least.endswith(f"(M/D/2) | {tails('default')['least_p99_to_service']:.2f} | | |")
    triton = f"{beside('rivals-1080', 'triton'):.2f}"
    assert f"| CPU of Triton over ours, each beside its ceiling | {triton} |" in lines
    (full,) = [row for row in result("decoding")["rows"] if row["size"] == "1920x1080"]
    (fast,) = [line for line in lines if line.startswith("| CPU-ms of decoding and resizing at a fraction")]
    assert fast.endswith(f"| {full['fast_cpu_ms']:.1f} |")
    assert f"| CPU-ms of decoding and resizing every pixel | {full['exact_cpu_ms']:.1f} |" in lines


def test_the_shares_of_the_cpu_time_are_those_of_their_file():
    lines = (DOCS / "bench.md").read_text().splitlines()
    for size in ("640x480", "1920x1080"):
        shares = result("shares")["rows"][size]["shares"]
        told = " | ".join(f"{shares[part]:.0%}" for part in ("inference", "decode", "python", "kernel"))
        assert f"| {size} | {told} |" in lines


def test_nobody_is_faster_and_nobodys_slowest_are():
    rows = load("rivals-640")
    own = rows.pop("cpuserve")
    assert all(row["rps"]["median"] < own["rps"]["median"] for row in rows.values())
    assert all(row["p99"]["median"] > own["p99"]["median"] for row in rows.values())
    quickest = min(row["p99"]["median"] for row in rows.values())
    line = f"{own['rps']['median']:.0f} against {max(row['rps']['median'] for row in rows.values()):.0f}, "
    assert f"{line}{own['p99']['median']:.0f} ms against {quickest:.0f}" in (DOCS / "bench.md").read_text()
