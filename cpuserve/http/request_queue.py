"""The queue of requests that wait for a thread: by priority, and fair between clients."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["RequestQueue"]

T = TypeVar("T")
_FAIR_EVERY = 4  # turns: one of them goes to who has had least, whatever its priority
_LEAST_COST_S = 1e-6
_REMEMBERED = 1024  # clients without a waiting request

_Entry = tuple[float, int, float, str, T, bool]  # start, arrival, cost, client, what waits, whether quietly


class RequestQueue(Generic[T]):
    """Orders waiting requests by start-time fair queueing over clients inside each priority.

    A request starts, on a clock of its own that counts work, where the latest request of its client ends. The
    request that starts first is taken first. So a client that has 200 requests waiting and one that has a
    single request take turns, and who sends requests that are twice as long has half as many turns.

    Lower numbers of priority go first. Every fourth turn goes to the request that starts first among all, so
    that no priority can keep others from being served. All methods may be called by several threads.

    Attributes:
        count: requests that wait, as `len` gives it without a call.
        quiet: those of them for which no thread is to be woken.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heaps: dict[int, list[_Entry[T]]] = {}  # by priority; none is empty
        self._ends: dict[str, float] = {}  # where the latest request of a client ends
        self._waiting: dict[str, int] = {}  # requests by client; none is zero
        self._arrivals = 0
        self._turn = 0
        self._cost_s = 0.0  # of all that wait
        self._last_start = 0.0  # no request that waits starts later
        self.count = self.quiet = 0

    def __len__(self) -> int:
        return self.count

    def put(self, item: T, client: str, priority: int, cost_s: float, *, quiet: bool = False) -> None:
        """Add a request.

        Args:
            item: the request.
            client: whose share it uses.
            priority: 1 goes first.
            cost_s: about how long it will take a thread; it delays the client's next requests.
            quiet: whether it waits for a thread that is awake.
        """
        with self._lock:
            start = self._start(client) if self.count else 0.0
            if not self.count:
                self._cost_s = self._last_start = 0.0
            self._cost_s += cost_s
            self._last_start = max(self._last_start, start)
            self._ends[client] = start + max(cost_s, _LEAST_COST_S)
            self._waiting[client] = self._waiting.get(client, 0) + 1
            self._arrivals += 1
            self.count += 1
            self.quiet += quiet
            entry = (start, self._arrivals, cost_s, client, item, quiet)
            heap = self._heaps.get(priority)
            if heap is None:
                self._heaps[priority] = [entry]
            else:
                heapq.heappush(heap, entry)

    def take(self) -> T | None:
        """The request whose turn it is; None when no request waits."""
        with self._lock:
            if self.count == 1:  # all begin anew
                _, heap = self._heaps.popitem()
                self.count = self.quiet = 0
                self._ends.clear()
                self._waiting.clear()
                return heap[0][4]
            found = self._pop()
            return None if found is None else found[1][4]

    def offer(self, accept: Callable[[T], bool]) -> bool:
        """Offer the next request to ``accept``; it keeps its turn when it is not accepted.

        Args:
            accept: gives whether it took the request, which no thread can take meanwhile.
        """
        with self._lock:
            found = self._pop()
        if found is None:
            return False
        priority, entry = found
        accepted = False
        try:
            accepted = accept(entry[4])
        finally:
            if not accepted:
                with self._lock:
                    start, _, cost_s, client, _, quiet = entry
                    heapq.heappush(self._heaps.setdefault(priority, []), entry)
                    self._waiting[client] = self._waiting.get(client, 0) + 1
                    self._ends[client] = max(start + max(cost_s, _LEAST_COST_S), self._ends.get(client, 0.0))
                    self.count += 1
                    self.quiet += quiet
                    self._cost_s += cost_s
                    self._last_start = max(self._last_start, start)
        return accepted

    def _pop(self) -> tuple[int, _Entry[T]] | None:
        heaps = self._heaps
        if not heaps:
            return None
        priority = min(heaps)
        if len(heaps) > 1:
            self._turn += 1
            if self._turn % _FAIR_EVERY == 0:
                priority = min(heaps, key=lambda one: heaps[one][0][:2])
        heap = heaps[priority]
        entry = heapq.heappop(heap)
        if not heap:
            del heaps[priority]
        self._leave(entry)
        return priority, entry

    def drop_for(self, client: str) -> T | None:
        """Drop a request of the client that has most, if it has at least two more waiting than ``client``.

        Returns:
            Its latest request; None when all clients have about as many, and the new request has to go.
        """
        with self._lock:
            greedy = self._greedier_than(client)
            if greedy is None:
                return None
            _, priority, entry = max(
                (entry[1], priority, entry)
                for priority, heap in self._heaps.items()
                for entry in heap
                if entry[3] == greedy
            )
            self._ends[greedy] -= max(entry[2], _LEAST_COST_S)
            heap = self._heaps[priority]
            heap.remove(entry)
            heapq.heapify(heap)
            if not heap:
                del self._heaps[priority]
            self._leave(entry)
            return entry[4]

    def would_drop_for(self, client: str) -> bool:
        """Whether `drop_for` would drop a request."""
        with self._lock:
            return self._greedier_than(client) is not None

    def _greedier_than(self, client: str) -> str | None:
        """The client that has most requests waiting, if it has at least two more than ``client``."""
        if not self._waiting:
            return None
        greedy = max(self._waiting, key=self._waiting.__getitem__)
        return None if self._waiting[greedy] < self._waiting.get(client, 0) + 2 else greedy

    def ahead(self, client: str, priority: int) -> tuple[int, float]:
        """How many requests would run before a new one, and how long they take one thread."""
        with self._lock:
            if not self.count:
                return 0, 0.0
            start = self._start(client)
            if len(self._heaps) == 1 and start >= self._last_start:  # as of one client without priorities
                all_before = priority in self._heaps or min(self._heaps) < priority
                return (self.count, self._cost_s) if all_before else (0, 0.0)
            count, cost_s, fair_s = 0, 0.0, 0.0
            for number, heap in self._heaps.items():
                for entry in heap:
                    before = entry[0] <= start
                    if before:
                        fair_s += entry[2]
                    if number < priority or (before and number == priority):
                        count += 1
                        cost_s += entry[2]
            if len(self._heaps) > 1 and count:
                # whatever has priority, every so many turns those that start before this one go on
                cost_s = min(cost_s, _FAIR_EVERY * (fair_s + cost_s / count))
            return count, cost_s

    def _now(self) -> float:
        """Where the clock stands: the earliest start of those that wait. A newcomer starts no earlier."""
        return min((heap[0][0] for heap in self._heaps.values()), default=0.0)

    def _start(self, client: str) -> float:
        return max(self._now(), self._ends.get(client, 0.0))

    def _leave(self, entry: _Entry[T]) -> None:
        """Remove a request that waits no longer from the counts of its client."""
        client = entry[3]
        self.count -= 1
        self.quiet -= entry[5]
        self._cost_s -= entry[2]
        left = self._waiting[client] - 1
        if left:
            self._waiting[client] = left
            return
        del self._waiting[client]
        if not self.count:  # all begin anew
            self._ends.clear()
        elif len(self._ends) > len(self._waiting) + _REMEMBERED:  # what others had is at most a request each
            self._ends = {name: self._ends[name] for name in self._waiting}
