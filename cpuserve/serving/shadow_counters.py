"""What the shadows of all workers have found, in shared memory: a row a worker, a place a model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from cpuserve.serving.answer_tally import Tally
from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Bytes, Floats, Record, Words

__all__ = ["BUCKETS_NS", "MOST_SHADOWS", "SHADOW_COUNTERS", "ShadowCell", "ShadowCounters", "ShadowTotals"]

SHADOW_COUNTERS = (
    "compared",  # requests whose answers were compared
    "silent",  # requests to which the stable version gave no answer that can be compared
    "failed",  # requests that the candidate did not answer
    "shed",  # requests that were not copied or not asked, since there was other work
    "answers",  # of the stable version, that could agree
    "missed",  # of those, how many the candidate lacks
    "invented",  # answers that the candidate adds
    "stable_infer_ns",
    "candidate_infer_ns",
    "stable_cpu_ns",
    "candidate_cpu_ns",
)
BUCKETS_NS = tuple(round(10_000 * 1.25**step) for step in range(64))
"""Upper ends of the buckets of times: 10 us to 13 s."""

MOST_SHADOWS = 32
"""Models that may have a shadow, one after the other or at one time."""

_KEY_BYTES, _TEXT_BYTES = 512, 400
_CLASSES = 256  # of masks
_FIELDS = {name: place for place, name in enumerate(SHADOW_COUNTERS)}
_STABLE, _CANDIDATE = len(_FIELDS), len(_FIELDS) + len(BUCKETS_NS) + 1
_WORDS = _CANDIDATE + len(BUCKETS_NS) + 1
_FLOATS = 2 * _CLASSES  # what agreed, what there was, by class; all but masks count as class 0


class _ShadowKeys(Record):
    keys = Bytes(MOST_SHADOWS * _KEY_BYTES)


class _ShadowRow(Record):
    words = Words(MOST_SHADOWS * _WORDS)
    floats = Floats(MOST_SHADOWS * _FLOATS)
    by_class = Words(MOST_SHADOWS)  # whether the agreement is the mean over classes
    what = Bytes(MOST_SHADOWS * _TEXT_BYTES)
    failure = Bytes(MOST_SHADOWS * _TEXT_BYTES)


@dataclass(frozen=True)
class ShadowTotals:
    """What all workers have found.

    Attributes:
        counters: by name.
        agreement: 0 to 1; None while nothing was compared.
        what: what was compared: "classes", "boxes"; or why nothing is.
        failure: why the candidate did not answer, of one of the failures.
        stable_ns: number of requests by bucket of `BUCKETS_NS`; those above at the end.
        candidate_ns: the same of the candidate.
    """

    counters: dict[str, int]
    agreement: float | None
    what: str
    failure: str
    stable_ns: Sequence[int]
    candidate_ns: Sequence[int]


class ShadowCounters:
    """The counters of all workers; a worker writes into its own row only.

    Args:
        rows: workers that may live at the same time.
    """

    def __init__(self, rows: int) -> None:
        self._block = Block("cpuserve-shadows", 1, _ShadowKeys, _ShadowRow, rows)

    def cell(self, row: int, key: str) -> ShadowCell | None:
        """The place of a worker for a pair of versions; another pair of a model begins at zero for all.

        Args:
            row: of the worker.
            key: the model's name, a slash, and what tells the pair from others.

        Returns:
            None where as many models as can have one had a shadow since the server began.
        """
        name = key.partition("/")[0]
        with self._block.lock:
            keys = [self._key(place) for place in range(MOST_SHADOWS)]
            place = next((place for place, known in enumerate(keys) if known.partition("/")[0] == name), None)
            if place is None and "" in keys:
                place = keys.index("")
            if place is None:
                return None
            if keys[place] != key:
                for each in self._block.rows:
                    _clear(each, place)
                start = place * _KEY_BYTES
                self._block.head.keys[start : start + _KEY_BYTES] = key.encode().ljust(_KEY_BYTES, b"\0")
        return ShadowCell(self, self._block.rows[row], place, key)

    def is_of(self, place: int, key: str) -> bool:
        """Whether a place still belongs to a pair of versions."""
        return self._key(place) == key

    def totals(self, key: str) -> ShadowTotals:
        """What all workers have found about a pair of versions; zeros where there is none."""
        place = next((place for place in range(MOST_SHADOWS) if self._key(place) == key), None)
        if place is None:
            return ShadowTotals(dict.fromkeys(SHADOW_COUNTERS, 0), None, "", "", (), ())
        words, floats, what, failure, by_class = [0] * _WORDS, [0.0] * _FLOATS, "", "", False
        for row in self._block.rows:
            mine = row.words[place * _WORDS : (place + 1) * _WORDS]
            words = [one + other for one, other in zip(words, mine, strict=True)]
            shares = row.floats[place * _FLOATS : (place + 1) * _FLOATS]
            floats = [one + other for one, other in zip(floats, shares, strict=True)]
            what = _text(row.what, place) or what
            failure = _text(row.failure, place) or failure
            by_class = by_class or bool(row.by_class[place])
        tally = Tally(dict(enumerate(floats[:_CLASSES])), dict(enumerate(floats[_CLASSES:])))
        counters = {name: words[field] for name, field in _FIELDS.items()}
        share = (tally.by_class if by_class else tally.pooled) if counters["compared"] else None
        stable, candidate = words[_STABLE:_CANDIDATE], words[_CANDIDATE:]
        return ShadowTotals(counters, share, what, failure, stable, candidate)

    def _key(self, place: int) -> str:
        data = self._block.head.keys[place * _KEY_BYTES : (place + 1) * _KEY_BYTES]
        return bytes(data).rstrip(b"\0").decode(errors="replace")


class ShadowCell:
    """What one worker has found about one pair of versions.

    Args:
        counters: of all workers.
        row: of the worker.
        place: of the model.
        key: of the pair; once the place belongs to another pair nothing is written.
    """

    def __init__(self, counters: ShadowCounters, row: _ShadowRow, place: int, key: str) -> None:
        self._counters, self._row, self._place, self._key = counters, row, place, key
        self._lock = threading.Lock()  # serving threads count what is shed

    def count(self, counter: str, amount: int = 1) -> None:
        """Add to a counter."""
        if self._counters.is_of(self._place, self._key):
            with self._lock:
                self._row.words[self._place * _WORDS + _FIELDS[counter]] += amount

    def timed(self, role: str, infer_ns: int, cpu_ns: int) -> None:
        """Count the times of one request.

        Args:
            role: "stable" or "candidate".
            infer_ns: inference.
            cpu_ns: CPU time of its thread.
        """
        if not self._counters.is_of(self._place, self._key):
            return
        self.count(f"{role}_infer_ns", infer_ns)
        self.count(f"{role}_cpu_ns", cpu_ns)
        first = self._place * _WORDS + (_STABLE if role == "stable" else _CANDIDATE)
        bucket = next((at for at, end in enumerate(BUCKETS_NS) if infer_ns <= end), len(BUCKETS_NS))
        self._row.words[first + bucket] += 1

    def compared(self, tally: Tally, what: str, *, by_class: bool) -> None:
        """Count the comparison of the answers to one request.

        Args:
            tally: what agrees.
            what: what was compared.
            by_class: whether the agreement is the mean over classes, as of masks.
        """
        if not self._counters.is_of(self._place, self._key):
            return
        row, first = self._row, self._place * _FLOATS
        for class_id, whole in tally.whole.items():
            at = first + (class_id % _CLASSES if by_class else 0)
            row.floats[at] += tally.agreed[class_id]
            row.floats[at + _CLASSES] += whole
        row.by_class[self._place] = by_class
        _put(row.what, self._place, what)
        self.count("compared")
        for name in ("answers", "missed", "invented"):
            self.count(name, getattr(tally, name))

    def failed(self, why: str) -> None:
        """Count a request that the candidate did not answer."""
        if self._counters.is_of(self._place, self._key):
            _put(self._row.failure, self._place, why)
            self.count("failed")

    def silent(self, why: str) -> None:
        """Count a request to which the stable version gave no answer that can be compared."""
        if self._counters.is_of(self._place, self._key):
            if why:
                _put(self._row.what, self._place, why)
            self.count("silent")


def _clear(row: _ShadowRow, place: int) -> None:
    row.words[place * _WORDS : (place + 1) * _WORDS] = memoryview(bytes(8 * _WORDS)).cast("Q")
    row.floats[place * _FLOATS : (place + 1) * _FLOATS] = memoryview(bytes(8 * _FLOATS)).cast("d")
    row.by_class[place] = 0
    for text in (row.what, row.failure):
        _put(text, place, "")


def _put(texts: memoryview, place: int, text: str) -> None:
    data = text.encode(errors="replace")[:_TEXT_BYTES]
    texts[place * _TEXT_BYTES : (place + 1) * _TEXT_BYTES] = data.ljust(_TEXT_BYTES, b"\0")


def _text(texts: memoryview, place: int) -> str:
    data = bytes(texts[place * _TEXT_BYTES : (place + 1) * _TEXT_BYTES])
    return data.rstrip(b"\0").decode(errors="ignore")
