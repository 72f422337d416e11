"""The queue between clients that are simulated: whose requests are run, in which order, and who has to go."""

import random
import sys
import threading
from collections import Counter

import pytest

from cpuserve.http.request_queue import RequestQueue
from cpuserve.protocols.urgency import DEFAULT_PRIORITY as LAST


def served(queue, turns, *, again=True, cost_s=lambda _client: 0.01):
    """Take so many; each client sends its next request as soon as it has its answer."""
    found = []
    for _ in range(turns):
        client, priority = queue.take()
        found.append(client)
        if again:
            queue.put((client, priority), client, priority, cost_s(client))
    return found


def fill(queue, client, count, priority=LAST, cost_s=0.01):
    for _ in range(count):
        queue.put((client, priority), client, priority, cost_s)


def test_one_client_is_served_as_it_came():
    queue = RequestQueue()
    for number in range(50):
        queue.put(number, "a", LAST, random.Random(number).random())  # noqa: S311
    assert [queue.take() for _ in range(50)] == list(range(50))
    assert queue.take() is None
    assert len(queue) == 0


def test_a_client_with_one_connection_has_as_many_turns_as_one_with_two_hundred():
    queue = RequestQueue()
    fill(queue, "many", 200)
    fill(queue, "one", 1)
    counts = Counter(served(queue, 1000))
    assert counts["one"] == pytest.approx(500, abs=2)


def test_clients_that_send_longer_requests_have_fewer_turns():
    queue = RequestQueue()
    cost = {"long": 0.04, "short": 0.01}
    for client, seconds in cost.items():
        fill(queue, client, 10, cost_s=seconds)
    counts = Counter(served(queue, 1000, cost_s=cost.__getitem__))
    assert counts["short"] == pytest.approx(4 * counts["long"], rel=0.03)


def test_a_newcomer_owes_nothing_and_is_owed_nothing():
    queue = RequestQueue()
    fill(queue, "old", 20)
    served(queue, 500)
    fill(queue, "new", 20)
    counts = Counter(served(queue, 100))
    assert counts["new"] == pytest.approx(50, abs=2)


def test_who_was_away_saved_nothing_up():
    queue = RequestQueue()
    fill(queue, "a", 1)
    fill(queue, "b", 5)
    assert served(queue, 2, again=False) == ["a", "b"]
    served(queue, 500)  # only b
    fill(queue, "a", 20)
    assert Counter(served(queue, 100))["a"] == pytest.approx(50, abs=2)


def test_lower_numbers_go_first_and_every_fourth_turn_goes_to_whoever_had_least():
    queue = RequestQueue()
    fill(queue, "urgent", 40, priority=1)
    fill(queue, "polite", 1)
    order = served(queue, 400)
    assert Counter(order)["polite"] == 100
    assert all("polite" in order[at : at + 4] for at in range(0, 400, 4))


def test_many_priorities_of_one_client_do_not_keep_another_waiting():
    queue = RequestQueue()
    for priority in range(1, 50):
        fill(queue, "urgent", 1, priority)
    fill(queue, "polite", 1)
    # one turn in four ignores priorities, and half of these are the other's
    assert Counter(served(queue, 400))["polite"] >= 50


def test_what_is_ahead_is_what_will_be_run_before():
    queue = RequestQueue()
    assert queue.ahead("a", LAST) == (0, 0.0)
    fill(queue, "a", 3, cost_s=0.5)
    fill(queue, "b", 1, cost_s=0.25)
    count, seconds = queue.ahead("a", LAST)
    assert (count, seconds) == (4, 1.75)
    count, seconds = queue.ahead("new", LAST)
    assert (count, seconds) == (2, 0.75)  # the first of each
    assert queue.ahead("new", 1) == (0, 0.0)
    fill(queue, "c", 60, priority=1, cost_s=0.1)
    count, seconds = queue.ahead("new", LAST)
    assert count == 62
    assert 0.85 < seconds < 6  # one turn in four ignores priorities


@pytest.mark.parametrize("seed", range(20))
def test_the_estimate_is_kept_when_nothing_else_comes(seed):
    chance = random.Random(seed)  # noqa: S311
    queue = RequestQueue()
    for number in range(40):
        queue.put((number, chance.random()), chance.choice("abc"), LAST, 0.01 + chance.random())
    count, _ = queue.ahead("me", LAST)
    queue.put("mine", "me", LAST, 1.0)
    before = 0
    while queue.take() != "mine":
        before += 1
    assert before == count


def test_in_a_full_queue_the_client_with_most_gives_up_its_latest():
    queue = RequestQueue()
    for number in range(5):
        queue.put(("many", number), "many", LAST, 0.01)
    queue.put(("some", 0), "some", LAST, 0.01)
    assert queue.drop_for("many") is None
    assert queue.drop_for("one") == ("many", 4)
    assert queue.drop_for("some") == ("many", 3)
    assert queue.drop_for("some") == ("many", 2)
    assert queue.drop_for("some") is None  # it has one, the other two: one more would be as many
    assert len(queue) == 3


def test_nobody_gives_way_where_all_have_one():
    queue = RequestQueue()
    assert queue.drop_for("a") is None
    for client in "bcd":
        fill(queue, client, 1)
    assert queue.drop_for("a") is None


def test_clients_are_forgotten():
    queue = RequestQueue()
    fill(queue, "first", 1)
    for number in range(10_000):
        fill(queue, f"client {number}", 1)
        queue.take()
        assert len(queue._ends) < 2000


def test_threads_lose_and_double_nothing():
    queue = RequestQueue()
    taken, start = [], threading.Barrier(8)

    def put(name):
        start.wait()
        for number in range(2000):
            queue.put((name, number), name, number % 3 + 1, 0.01)

    def take():
        start.wait()
        while len(taken) < 8000:
            item = queue.take()
            if item is not None:
                taken.append(item)

    threads = [threading.Thread(target=put, args=(str(name),)) for name in range(4)]
    threads += [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == len(set(taken)) == 8000
    assert (len(queue), queue._waiting, queue._heaps) == (0, {}, {})


@pytest.mark.parametrize("seed", range(4))
def test_whatever_threads_do_at_the_same_time_nothing_is_lost_or_told_twice(seed):
    queue, put, left = RequestQueue(), [], []
    lock = threading.Lock()

    def work(number):
        dice = random.Random(f"{seed}{number}")  # noqa: S311  # the same on every run
        for turn in range(400):
            client = f"client {dice.randrange(4)}"
            match dice.randrange(6):
                case 0 | 1 | 2:
                    with lock:
                        put.append((number, turn))
                    queue.put((number, turn), client, dice.randrange(1, 3), dice.random())
                case 3:
                    keep(queue.take())
                case 4:
                    queue.offer(lambda item: dice.random() < 0.5 and (keep(item) or True))
                case _:
                    keep(queue.drop_for(client))

    def keep(item):
        if item is not None:
            with lock:
                left.append(item)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    for _ in range(queue.count):
        keep(queue.take())
    assert (queue.take(), queue.count) == (None, 0)
    assert sorted(left) == sorted(put)


def test_what_is_not_accepted_keeps_its_turn():
    queue = RequestQueue()
    for name in ("a", "b"):
        queue.put(name, name, 1, 1.0)
    offered = []
    assert not queue.offer(offered.append)
    assert (offered, queue.count) == (["a"], 2)
    assert queue.offer(lambda item: item == "a")
    assert [queue.take(), queue.take()] == ["b", None]
    assert not queue.offer(lambda _: True)


def test_what_was_offered_alone_can_be_dropped_after_others_came():
    queue = RequestQueue()
    queue.put("first", "greedy", 1, 1.0)

    def refuse(_):
        queue.put("second", "greedy", 1, 1.0)
        assert queue.take() == "second"
        queue.put("third", "greedy", 1, 1.0)
        return False

    assert not queue.offer(refuse)
    assert queue.drop_for("other") == "third"
    assert queue.take() == "first"


@pytest.mark.parametrize("clients", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_ahead_of_a_client_that_is_last_is_all_that_waits(seed, clients):
    """Counted one by one, whatever was put, taken, offered and dropped before."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    queue = RequestQueue()
    for _ in range(400):
        client = f"c{chance.randrange(clients)}"
        match chance.randrange(8):
            case 0 | 1 | 2 | 3:
                queue.put(object(), client, LAST, chance.random())
            case 4 | 5:
                queue.take()
            case 6:
                queue.offer(lambda _: chance.random() < 0.5)
            case _:
                queue.drop_for(client)
        entries = [entry for heap in queue._heaps.values() for entry in heap]
        start = queue._start(client)
        before = [entry[2] for entry in entries if entry[0] <= start]
        count, cost_s = queue.ahead(client, LAST)
        assert (count, cost_s) == (len(before), pytest.approx(sum(before), abs=1e-9))
        first, first_s = queue.ahead(client, 1)
        assert (first, first_s) == (0, 0.0)


def test_those_that_wake_nobody_are_counted_until_they_are_taken():
    queue: RequestQueue[str] = RequestQueue()
    for number in range(5):
        queue.put(f"{number}", "a", 1, 1.0, quiet=number % 2 == 0)
    assert (queue.count, queue.quiet) == (5, 3)
    assert queue.take() == "0"
    assert queue.quiet == 2
    assert not queue.offer(lambda _one: False)
    assert (queue.count, queue.quiet) == (4, 2)
    assert queue.drop_for("b") == "4"
    assert queue.quiet == 1
    assert [queue.take() for _ in range(3)] == ["1", "2", "3"]
    queue.put("5", "a", 1, 1.0, quiet=True)
    assert queue.take() == "5"
    assert (queue.count, queue.quiet) == (0, 0)
