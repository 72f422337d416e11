"""Verdicts about OpenMP's variables on made looks: facts first, then figures beyond noise."""

from __future__ import annotations

from benchmarks.openmp_effects import AGAIN, Case, Look, Seen, judge

TBB = (), True
LIBGOMP = ("libgomp.so.1",), True
INTEL = ("libgomp.so.1", "libiomp5.so"), True


def look(mapped=LIBGOMP, *, p50=10.0, rate=100.0, cpu=5.0, masks=None, cpus=2, foreign=0.0):
    seen = Seen(rate, p50, cpu, foreign)
    loads = dict.fromkeys(("one client", "a client a core", "5 requests/s"), seen)
    return Look(*mapped, {"0-1": 20} if masks is None else masks, cpus, loads)


def verdict(name, value, found, plain=None, again=None, mapped=LIBGOMP):
    plain = plain or [look(mapped)] * len(found)
    looks = {Case("p"): plain, Case("p", AGAIN): again or plain, Case("p", name, value): found}
    (only,) = judge(looks)
    return only


def test_without_a_runtime_there_is_no_effect_whatever_was_measured():
    found = verdict("OMP_NUM_THREADS", "1", [look(TBB, rate=60), look(TBB, rate=55)], mapped=TBB)
    assert found.words == "no effect, TBB build"
    assert found.why == "no OpenMP runtime is mapped"
    assert verdict("OMP_NUM_THREADS", "1", [look(((), False))]).words == "no effect"


def test_within_the_noise_of_two_alike_servers_there_is_no_effect():
    again = [look(rate=110, p50=11), look(rate=104)]
    found = verdict("OMP_NUM_THREADS", "1", [look(rate=104), look(rate=108)], again=again)
    assert found.words == "no effect (within noise 10 %)"
    assert found.why == ""


def test_changes_beyond_noise_help_or_harm_load_by_load():
    found = verdict("KMP_BLOCKTIME", "0", [look(INTEL, p50=14, cpu=2)] * 3, mapped=INTEL)
    assert found.words == "helps: CPU-ms an image -60 % (5 requests/s); harmful: p50 +40 % (one client)"
    assert [change.kind for change in found.changes] == ["harmful", "no effect", "helps"]


def test_one_bad_round_does_not_make_a_verdict():
    found = verdict("OMP_NUM_THREADS", "1", [look(), look(rate=40), look()])
    assert found.changes[1].change == 0
    assert found.changes[1].kind == "no effect"


def test_affinity_that_shrank_is_named():
    masks = {"0-1": 16, "0": 4, "1": 2}
    found = verdict("KMP_AFFINITY", "compact", [look(INTEL, rate=60, masks=masks)], mapped=INTEL)
    assert found.words == "harmful: images/s -40 % (a client a core)"
    assert found.why == "affinity shrank to 1 CPU for 6 of 22 threads, 4 of them on CPU 0"
    both = verdict("KMP_AFFINITY", "compact", [look(INTEL, masks={"0": 20}, cpus=1)], mapped=INTEL)
    assert "the worker may use 1 CPU in place of 2" in both.why


def test_masks_that_were_narrow_before_are_no_news():
    masks = {"0-1": 16, "0": 4}
    plain = [look(INTEL, masks=masks)]
    assert verdict("KMP_AFFINITY", "x", [look(INTEL, masks=masks)], plain).why == ""


def test_only_intels_runtime_reads_its_variables():
    slow = verdict("KMP_BLOCKTIME", "0", [look(rate=50)])
    assert (slow.words, slow.why) == ("no effect, nobody reads it", "libgomp.so.1 reads no KMP_ variables")
    intel = verdict("KMP_BLOCKTIME", "0", [look(INTEL, rate=50)], mapped=INTEL)
    assert (intel.words, intel.why) == ("harmful: images/s -50 % (a client a core)", "")


def test_fewer_threads_are_named():
    assert verdict("OMP_NUM_THREADS", "1", [look(masks={"0-1": 18})]).why == "18 threads in place of 20"


def test_figures_beside_busy_programs_are_not_judged_but_facts_are():
    busy = verdict("OMP_NUM_THREADS", "1", [look(rate=50, foreign=1.2)])
    assert busy.words == "not judged: other programs were busy"
    shrunk = [look(INTEL, foreign=1.2, masks={"0-1": 16, "0": 4})]
    found = verdict("KMP_AFFINITY", "compact", shrunk, mapped=INTEL)
    assert (found.words, found.why[:23]) == ("harmful", "affinity shrank to 1 CP")


def test_a_look_comes_back_from_its_document():
    seen = look(INTEL, masks={"0": 2})
    assert Look.from_document(seen.document()) == seen
