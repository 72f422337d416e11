"""Answers are sent at once, but for the time that clients are told that their channel is closing."""

from __future__ import annotations

import threading

from cpuserve.grpc.held_answers import HeldAnswers


def test_what_is_held_is_sent_in_its_order_and_later_answers_at_once():
    sent, held = [], HeldAnswers()
    held.send(lambda: sent.append(1))
    held.hold()
    held.send(lambda: sent.append(2))
    held.send(lambda: sent.append(3))
    assert sent == [1]
    held.release()
    assert sent == [1, 2, 3]
    held.send(lambda: sent.append(4))
    assert sent == [1, 2, 3, 4]


def test_no_answer_is_lost_while_they_are_let_go():
    def send_all(held, sent):
        for _ in range(100):
            held.send(lambda: sent.append(1))

    for _ in range(50):
        sent, held = [], HeldAnswers()
        held.hold()
        threads = [threading.Thread(target=send_all, args=(held, sent)) for _ in range(4)]
        for thread in threads:
            thread.start()
        held.release()
        for thread in threads:
            thread.join()
        assert len(sent) == 400
