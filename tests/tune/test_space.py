import dataclasses

import pytest

from cpuserve.machine.budget import Budget
from cpuserve.machine.placement import plan_for_settings
from cpuserve.machine.topology import Topology
from cpuserve.models.repository import ModelFile
from cpuserve.settings import SETTINGS, Settings
from cpuserve.tune.machine_facts import MachineFacts, ModelMemory
from cpuserve.tune.space import KNOBS, Space
from cpuserve.tune.space_rules import RULES
from cpuserve.tune.trial import Point
from tests.machine import trees
from tests.tune.simulated import TWO_SOCKETS

TWO_CORES = MachineFacts(cores=(2,), cpus=2, threads=2, workers=2, seat_cores=1)


@pytest.fixture(scope="module")
def large():
    return Space.of(TWO_SOCKETS)


def values_of(space, knob):
    return {space.full(point)[knob] for point in space.points}


def test_every_knob_is_a_setting_with_these_values_or_a_variable(large):
    assert tuple(large.values) == KNOBS
    host = dataclasses.replace(TWO_CORES, allocators=("jemalloc", "tcmalloc"))
    for knob, choices in Space.of(host, ("auto", "f32", "bf16", "f16")).values.items():
        if not knob.startswith("env."):
            assert [SETTINGS[knob].parse(value, "space") for value in choices if value is not None]


def test_all_settings_of_a_point_make_a_server_that_can_be_planned(tmp_path):
    root = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=2, smt=2).root
    topology, budget = Topology.read(root), Budget(frozenset(range(8)))
    host = MachineFacts.of(topology, budget, plan_for_settings(topology, budget, Settings()))
    assert (host.cores, host.cpus, host.siblings, host.workers, host.seat_cores) == ((2, 2), 8, 2, 4, 1)
    space = Space.of(host)
    names = {"workers", "cores_per_worker", "use_logical_core"}
    for point in space.points:
        chosen = {name: value for name, value in point.settings().items() if name in names}
        seats = plan_for_settings(topology, budget, Settings(**chosen)).seats
        full = space.full(point)
        assert len(seats) == full["workers"], point
        assert {len(topology.cores(seat.cpus)) for seat in seats} == {full["cores_per_worker"]}, point
        assert full["inference_threads"] <= min(len(seat.cpus) for seat in seats), point


def test_the_defaults_are_the_empty_point_and_no_settings_are_there_twice(large):
    assert Point() in large.points
    assert len(set(large.points.values())) == len(large.points)
    assert all(large.canonical(point) == point for point in list(large.points)[::50])


@pytest.mark.parametrize(
    "knobs",
    [
        {"workers": 2},
        {"workers": 2, "cores_per_worker": 1},
        {"streams": 1, "threads": 1, "inference_threads": 1, "max_batch": 8},
    ],
)
def test_what_says_the_same_as_the_defaults_is_the_defaults(knobs):
    assert Space.of(TWO_CORES).canonical(Point.of(knobs)) == Point()


def test_what_is_off_the_grid_stays_as_it_is():
    point = Point.of({"workers": 1, "decode": "exact"})
    assert Space.of(TWO_CORES).canonical(point) == point


def test_each_dropped_point_counts_for_one_rule():
    space = Space.of(TWO_CORES)
    assert sum(space.dropped.values()) + len(space.points) == space.total
    assert space.dropped["seats-fit"] > 0
    assert any(line.startswith("seats-fit: ") and "NUMA node" in line for line in space.explain())


@pytest.mark.parametrize(
    ("host", "knob", "allowed"),
    [
        (TWO_CORES, "use_logical_core", {False}),
        (TWO_SOCKETS, "use_logical_core", {False, True}),
        (TWO_CORES, "scheduling_core_type", {None}),
        (
            dataclasses.replace(TWO_CORES, kinds=frozenset("PE")),
            "scheduling_core_type",
            {None, "pcore_only", "ecore_only"},
        ),
        (TWO_CORES, "env.OMP_NUM_THREADS", {None}),
        (dataclasses.replace(TWO_CORES, openmp=("libgomp.so.1",)), "env.OMP_NUM_THREADS", {None, 1}),
        (dataclasses.replace(TWO_CORES, openmp=("libgomp.so.1",)), "env.KMP_BLOCKTIME", {None}),
        (
            dataclasses.replace(TWO_CORES, openmp=("libgomp.so.1", "libiomp5.so")),
            "env.KMP_BLOCKTIME",
            {None, 0, 1, "infinite"},
        ),
        (dataclasses.replace(TWO_CORES, allocators=("jemalloc",)), "allocator", {"none", "jemalloc"}),
        (TWO_CORES, "enable_cpu_pinning", {False, True}),
        (dataclasses.replace(TWO_CORES, networks=(ModelMemory(1, 1),) * 2), "enable_cpu_pinning", {False}),
        (TWO_CORES, "precision", {"auto"}),
        (TWO_CORES, "share_weights", {False, True}),
        (dataclasses.replace(TWO_CORES, cores=(1,), cpus=1, threads=1, workers=1), "share_weights", {True}),
    ],
)
def test_a_knob_varies_only_where_it_can_matter(host, knob, allowed):
    space = Space.of(host)
    assert values_of(space, knob) == allowed
    assert (knob in space.not_tried()) == (len(allowed) == 1)


def test_only_allowed_precisions_that_the_cpu_has_are_tried():
    host = dataclasses.replace(TWO_CORES, capabilities=frozenset({"FP32", "BF16"}))
    assert values_of(Space.of(host, ("f32", "bf16", "f16")), "precision") == {"auto", "f32", "bf16"}
    assert values_of(Space.of(host, ("f32",)), "precision") == {"auto", "f32"}


def test_a_quota_limits_the_threads_of_all_workers():
    host = MachineFacts(cores=(8,), cpus=8, threads=2, quota=True, workers=2, seat_cores=4)
    space = Space.of(host)
    for point in space.points:
        full = space.full(point)
        assert full["workers"] == 1 or full["workers"] * full["inference_threads"] <= 2


def test_memory_is_estimated_and_the_estimate_corrected_by_the_first_trial():
    network = ModelMemory(weights_bytes=100 << 20, row_bytes=1 << 20)
    host = dataclasses.replace(TWO_CORES, memory_bytes=2 << 30, networks=(network,))
    assert values_of(Space.of(host), "workers") == {1, 2}
    seen = host.with_first_trial((), 1800.0)
    assert seen.memory_mib(2, 8) == pytest.approx(1800.0)
    assert seen.memory_mib(1, 8) == pytest.approx(900.0)
    assert values_of(Space.of(dataclasses.replace(seen, memory_bytes=1 << 30)), "workers") == {1, 2}
    strict = Space.of(dataclasses.replace(seen, memory_bytes=1 << 30))
    assert [p for p in strict.points if strict.full(p)["workers"] == 2] == [Point()]
    assert strict.dropped["memory-fits"] > 0


def test_the_input_of_a_network_is_read_from_its_files(tmp_path):
    xml = tmp_path / "model.xml"
    xml.write_text('<layer id="0" name="x" type="Parameter" version="opset1">\n<data shape="?,3,224,224" />')
    (tmp_path / "model.bin").write_bytes(b"x" * 1000)
    network = ModelMemory.of(ModelFile("m", 1, xml))
    assert network == ModelMemory(1000 + xml.stat().st_size, 4 * 3 * 224 * 224)


def test_every_rule_has_a_sentence():
    assert all(rule.why.endswith(".") and len(rule.why) > 20 for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)
