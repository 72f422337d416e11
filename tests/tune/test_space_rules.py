import dataclasses

import pytest

from cpuserve.tune.machine_facts import MachineFacts, ModelMemory
from cpuserve.tune.space_rules import RULES

HOST = MachineFacts(cores=(8, 8), cpus=16, threads=16, workers=4, seat_cores=4, memory_bytes=1 << 30)
BASE = {
    "workers": 4,
    "cores_per_worker": 4,
    "use_logical_core": False,
    "inference_threads": 4,
    "streams": 2,
    "share_weights": True,
    "threads": 4,
    "max_batch": 8,
    "max_queue_delay_us": 0.0,
    "precision": "auto",
    "enable_cpu_pinning": False,
    "scheduling_core_type": None,
    "allocator": "none",
    "env.OMP_NUM_THREADS": None,
    "env.KMP_BLOCKTIME": None,
    "env.KMP_AFFINITY": None,
}


def objecting(host=HOST, **changes):
    values = {**BASE, **{name.replace("env_", "env."): value for name, value in changes.items()}}
    return [rule.name for rule in RULES if not rule.allows(host, values)]


def test_no_rule_objects_to_good_settings():
    assert objecting() == []


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("openmp-is-there", {"env_OMP_NUM_THREADS": 1}),
        ("intel-openmp-is-there", {"env_KMP_AFFINITY": "disabled"}),
        ("two-kinds-of-core", {"scheduling_core_type": "pcore_only"}),
        ("smt-is-there", {"use_logical_core": True}),
        ("native-precision", {"precision": "bf16"}),
        ("seats-fit", {"workers": 5}),
        ("cores-are-used", {"workers": 1}),
        ("inference-fits-the-seat", {"inference_threads": 8}),
        ("inference-fits-the-seat", {"inference_threads": 1, "streams": 1}),
        ("threads-within-the-budget", {"inference_threads": 8}),
        ("streams-share-evenly", {"streams": 3}),
        ("weights-can-be-shared", {"streams": 1, "share_weights": False}),
        ("pinned-weights-are-shared", {"share_weights": False, "enable_cpu_pinning": True}),
        ("every-stream-is-fed", {"streams": 4, "threads": 2}),
        ("serving-fits-the-seat", {"threads": 16}),
        ("serving-fits-the-seat", {"threads": 1, "streams": 1}),
        ("batches-can-fill", {"max_batch": 16}),
        ("batches-can-fill", {"max_batch": 4}),
        ("company-can-come", {"max_queue_delay_us": 500.0, "streams": 4}),
    ],
)
def test_a_rule_objects_to_what_it_is_for(rule, changes):
    assert rule in objecting(**changes)


@pytest.mark.parametrize(
    "host",
    [
        dataclasses.replace(HOST, quota=True),
        dataclasses.replace(HOST, networks=(ModelMemory(1, 1),) * 2),
    ],
)
def test_threads_are_not_pinned_under_a_quota_or_for_several_models(host):
    assert objecting(enable_cpu_pinning=True) == []
    assert "pinning-can-matter" in objecting(host, enable_cpu_pinning=True)


def test_memory_counts_workers_and_batches():
    host = dataclasses.replace(HOST, networks=(ModelMemory(50 << 20, 1 << 20),))
    assert objecting(host) == []
    assert objecting(host, max_batch=32, threads=8)[-1] == "memory-fits"
    assert objecting(host, share_weights=False, streams=4)[-1] == "memory-fits"
    assert "memory-fits" not in objecting(dataclasses.replace(host, memory_bytes=0), max_batch=32)
