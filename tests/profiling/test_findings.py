"""Each rule finds what it is for in a recording made to have it, and is silent beside it."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest

from cpuserve.profiling.findings import RULES, find
from cpuserve.settings import SETTINGS
from tests.conftest import ROOT
from tests.profiling.made import QUIET, layers, made, stacks

BIG = {"decode": 24.0, "resize": 1.0, "infer": 5.0, "post": 0.3, "serialise": 0.2}
TAIL = {"decode": 1.0, "infer": 5.0, "post": 20.0, "serialise": 0.2}
QUEUED = {**QUIET, "queue": 30.0}
OUTSIDE = {"client", "model", "container", "machine", "profile", "OMP_WAIT_POLICY"}

# by rule: what provokes it, and the nearest thing that must not
CASES = {
    "decode-threads": (
        {"workers": 1, "threads": 1, "stages": BIG},
        {"workers": 1, "threads": 2, "stages": BIG},
    ),
    "decode-exact": (
        {"stages": BIG, "settings": {"decode": "exact"}},
        {"settings": {"decode": "exact"}},
    ),
    "decode-heavy": ({"stages": BIG}, {"stages": {**BIG, "infer": 40.0}}),
    "shared-core": ({"same_cpu": True, "wait": 1.0}, {"wait": 1.0}),
    "few-threads": ({"workers": 1, "threads": 1}, {"workers": 1, "threads": 1, "gap": 5.0}),
    "throttled": (
        {"throttling": {"share": 0.4, "throttled_usec": 500_000, "source": "/cg/cpu.stat"}},
        {"throttling": {"share": 0.01, "throttled_usec": 10}},
    ),
    "oversubscribed": ({"workers": 2, "threads": 2, "wait": 1.0}, {"wait": 0.05}),
    "spinning": (
        {"workers": 1, "engine_threads": 2, "spin": 0.9, "stages": {**QUIET, "infer": 0.5}},
        {"workers": 1, "engine_threads": 2, "spin": 0.01},
    ),
    "wandering": ({"moves": 20}, {"moves": 1}),
    "slow-kernels": ({"layers": layers("f32", "ref_any")}, {}),
    "float-layers": ({"flags": ("avx512_vnni",)}, {"flags": ("avx512_vnni",), "layers": layers("i8")}),
    "lone-rows": (
        {"workers": 1, "threads": 2, "cpus": 2, "stages": {**QUEUED, "infer": 60.0, "queue": 300.0}},
        {
            "workers": 1,
            "threads": 2,
            "cpus": 2,
            "stages": {**QUEUED, "infer": 60.0, "queue": 300.0},
            "images": 4,
        },
    ),
    "python-tail": ({"stages": TAIL}, {"stages": {**TAIL, "post": 1.0}}),
    "json-heavy": ({"stages": {**QUIET, "serialise": 6.0}}, {}),
    "overloaded": ({"stages": QUEUED}, {"stages": {**QUIET, "queue": 2.0}}),
    "idle": ({"gap": 60.0}, {}),
    "refusals": ({"statuses": (200, 200, 200, 503)}, {"statuses": (200,) * 199 + (503,)}),
    "observers": ({"overhead": {"share": 0.2, "noise": 0.1}}, {"overhead": {"share": 0.2, "noise": 0.3}}),
}


def names(recording):
    return [finding.rule for finding in find(recording)]


def test_every_rule_has_its_case():
    assert list(CASES) == [rule.name for rule in RULES]


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_what_it_is_for(name):
    provoking, near = CASES[name]
    (found,) = (finding for finding in find(made(**provoking)) if finding.rule == name)
    (rule,) = (rule for rule in RULES if rule.name == name)
    assert found.setting in rule.settings
    assert any(letter.isdigit() for letter in found.text), found.text
    title, _, detail = found.text.partition(": ")  # the page shows the first as a heading
    assert 0 < len(title) <= 60, found.text
    assert detail
    assert name not in names(made(**near))


def test_a_server_without_a_flaw_has_no_finding():
    assert names(made()) == []


def test_settings_are_called_what_the_docs_call_them():
    known = SETTINGS.keys() | OUTSIDE
    assert {setting for rule in RULES for setting in rule.settings} <= known


def test_one_decoding_thread_is_named_with_what_it_costs():
    best = find(made(workers=1, threads=1, stages=BIG))[0]
    assert (best.rule, best.severity, best.setting) == ("decode-threads", "high", "threads")
    assert best.expected_factor == pytest.approx(1.9)
    assert best.sentence == (
        "decode is the bottleneck: 1 serving thread is 98 % busy, 82 % of it decoding and resizing, while "
        "inference waits 92 % of the time: raise threads from 1 to 2 a worker; expected 1.9x"
    )


def test_what_others_use_is_not_promised():
    load = {"mean_ms": 31.0, "foreign_cores": 0.5, "client_cores": 0.2}
    recording = made(workers=1, threads=1, stages=BIG, load=load)
    # others may run beside the server, on a machine with more CPUs than it may use
    assert find(recording)[0].expected_factor == pytest.approx(0.95 * 2.0 / 1.19, rel=0.02)
    recording.placement["machine"]["cpus"] = 2
    assert find(recording)[0].expected_factor == pytest.approx(0.95 * 1.5 / 1.19, rel=0.02)
    recording.load["foreign_cores"] = 1.9
    assert find(recording)[0].expected_factor == 1.0


def test_a_shared_core_is_told_from_a_full_machine():
    shared = find(made(same_cpu=True, wait=1.0))
    assert shared[0].rule == "shared-core"
    assert "oversubscribed" not in [finding.rule for finding in shared]
    assert "CPU 0" in shared[0].text
    assert "planned on CPUs 0 and 1" in shared[0].text
    assert names(made(wait=1.0)) == ["oversubscribed"]


def test_workers_that_were_planned_on_one_core_were_not_moved():
    recording = made(same_cpu=True, wait=1.0)
    for seat in recording.placement["seats"]:
        seat["cpus"] = "0"
    assert "moved" not in find(recording)[0].text


def test_a_python_tail_names_the_function():
    (found,) = (one for one in find(made(stages=TAIL, stacks=tail_stacks())) if one.rule == "python-tail")
    assert "tail (tails.py) alone holds 40 % of the stack samples" in found.text
    silent = find(made(stages=TAIL, stacks=None))
    assert "stack samples" not in silent[0].text


def tail_stacks():
    return stacks(
        {
            "process 1;answers (cpuserve/serving/cut_parts.py:9);tail (tails.py:4)": 4,
            "run (cpuserve/serving/engine.py:1)": 6,
        }
    )


def test_threads_that_change_the_node_are_told_from_those_that_change_the_core():
    recording = made(nodes=("0", "1"), moves=30)
    track = recording.threads[0]
    for number, (t, cpu, wait, _) in enumerate(track.samples):
        track.samples[number] = (t, cpu, wait, number % 2)
    assert "NUMA node" in next(one.text for one in find(recording) if one.rule == "wandering")


@pytest.mark.parametrize("precision", ["f32", "auto"])
def test_bf16_is_advised_only_where_it_is_not_computed_in_already(precision):
    assert "float-layers" not in names(
        made(flags=("amx_bf16", "avx512_vnni"), settings={"precision": "bf16"})
    )
    found = find(made(flags=("amx_bf16",), settings={"precision": precision}))
    assert found[0].setting == "precision"


def test_a_kernel_says_better_than_its_output_what_it_computes_in():
    stored_half = [replace(layer, precision="f16", exec_type="brgconv_avx2_f32") for layer in layers("f32")]
    assert "float-layers" in names(made(flags=("avx512_vnni",), layers=stored_half))
    integers = [replace(layer, exec_type="brgconv_avx512_i8") for layer in layers("f32")]
    assert "float-layers" not in names(made(flags=("avx512_vnni",), layers=integers))


def test_an_idle_server_that_answered_nothing_is_idle():
    recording = made(requests=[], batches=[])
    assert "answered no request" in next(one.text for one in find(recording) if one.rule == "idle")


def test_a_factor_is_never_promised_below_one():
    for provoking, _ in CASES.values():
        for finding in find(made(**provoking)):
            assert finding.expected_factor is None or finding.expected_factor >= 1, finding


def test_the_docs_have_every_rule_as_it_is():
    page = (ROOT / "docs" / "profile.md").read_text(encoding="utf-8")
    for rule in RULES:
        settings = ", ".join(f"`{setting}`" for setting in rule.settings)
        assert f"| `{rule.name}` | {rule.summary} | {settings} |" in page


OWN = {"own": True, "made_up": True}


@pytest.mark.parametrize("name", ["overloaded", "idle", "refusals", "decode-heavy"])
def test_what_the_profiles_own_load_brings_about_is_blamed_on_no_client(name):
    provoking, _ = CASES[name]
    recording = dataclasses.replace(made(**provoking), load={**made(**provoking).load, **OWN})
    (found,) = (finding for finding in find(recording) if finding.rule == name)
    assert found.setting == "profile"
    assert "--concurrency" in found.change or "--load DIR" in found.change
