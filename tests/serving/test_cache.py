"""Kept answers: bounded in memory, told apart by everything that was asked."""

import tracemalloc

import numpy as np
import pytest

from cpuserve.serving.cache import ENTRY_BYTES, ResultCache, digest


def key(number):
    return digest(("predict", number), [b""])


def test_those_not_asked_for_longest_make_room():
    cache = ResultCache(3 * (ENTRY_BYTES + 100))
    for number in range(3):
        cache.put(key(number), bytes(100))
    assert cache.get(key(0)) == bytes(100)  # asked for again: 1 is the oldest now
    cache.put(key(3), bytes(100))
    assert [cache.get(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert cache.size_bytes == cache.limit_bytes


def test_the_same_answer_counts_once_and_one_that_is_too_large_not_at_all():
    cache = ResultCache(ENTRY_BYTES + 100)
    for _ in range(3):
        cache.put(key(1), bytes(100))
    cache.put(key(2), bytes(101))
    assert cache.get(key(1)) == bytes(100)
    assert cache.get(key(2)) is None
    assert cache.size_bytes == cache.limit_bytes


@pytest.mark.parametrize(
    "answer", [lambda n: b"%d" % n, lambda n: (np.full((1, 2), n, np.float32), np.full((1, 3), n))]
)
def test_memory_stays_below_the_limit(answer):
    limit = 1 << 20
    tracemalloc.start()
    try:
        cache = ResultCache(limit)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(5000):
            cache.put(key(number), answer(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert limit - 2 * ENTRY_BYTES * 3 < cache.size_bytes <= limit
    assert after - before < limit


def test_no_two_questions_share_a_key():
    data = np.zeros((1, 4), np.float32)
    keys = [
        digest(("predict", None), [b"ab"]),
        digest(("predict", 1), [b"ab"]),
        digest(("render", 1, True), [b"ab"]),
        digest(("predict", None), [b"a", b"b"]),
        digest(("predict", None), [b"abc"]),
        digest(("infer",), [data]),
        digest(("infer",), [data.reshape(4, 1)]),
        digest(("infer",), [data.view(np.int32)]),
        digest(("infer",), [data, data]),
        digest(("infer",), [np.zeros((2, 4), np.float32)]),
    ]
    assert len(set(keys)) == len(keys)
    assert digest(("predict", 1), [b"ab"]) == digest(("predict", 1), [memoryview(b"ab")])
    wide = np.zeros((1, 8), np.float32)
    assert digest(("infer",), [wide[:, ::2]]) == keys[5]  # the same tensor, however it lies in memory
