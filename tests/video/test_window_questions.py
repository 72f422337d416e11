"""Questions about a window wait until all its looks are known, and those that decide nothing are spared."""

import math
from concurrent.futures import Future

import numpy as np
import pytest

from cpuserve.errors import CpuserveError
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_stage import Decision
from cpuserve.video.frame_labels import FrameLabels
from cpuserve.video.window_questions import WindowQuestions

PIXELS = np.zeros((2, 2, 3), np.uint8)
OPEN = Decision(int(DecidedBy.REFERENCE), False, -1, math.nan, 0.5, math.nan, 0.0, 8, 8)
YES = OPEN._replace(stage=int(DecidedBy.SPECIALISED), label=True)
NO = YES._replace(label=False)


class Asked:
    """A reference whose answers come when the test says so."""

    def __init__(self):
        self.answers = []

    def __call__(self, pixels, decision):
        assert pixels is PIXELS
        self.answers.append(Future())
        return self.answers[-1]

    def say(self, label):
        self.answers[-1].set_result((label, 0.9))


@pytest.fixture
def asked():
    return Asked()


@pytest.fixture
def questions(asked):
    return WindowQuestions(asked, lambda _: 0.0)


def see(questions, window, *decisions):
    return [
        questions.see((window, 0), 30 * window + place, decision, PIXELS if decision.stage == 4 else None)
        for place, decision in enumerate(decisions)
    ]


def test_nothing_is_asked_of_a_window_that_a_later_look_denies(questions, asked):
    first, second, none = see(questions, 0, OPEN, OPEN, NO)
    assert none is None
    see(questions, 1, YES)
    assert first.done()
    assert second.result() is None
    assert first.decision.stage == DecidedBy.SKIPPED
    assert not asked.answers


def test_looks_are_asked_in_order_until_the_reference_says_no(questions, asked):
    first, yes, second, third = see(questions, 0, OPEN, YES, OPEN, OPEN)
    assert yes is None
    assert not asked.answers  # a later look may still deny it
    questions.close()
    assert len(asked.answers) == 1
    assert not first.done()
    asked.say(True)
    assert not second.done()
    assert len(asked.answers) == 2
    asked.say(False)
    assert third.done()
    assert third.result() is None
    assert (first.result(), second.result()) == ((True, 0.9), (False, 0.9))
    assert len(asked.answers) == 2


def test_the_least_likely_look_is_asked_first_and_enough_of_them_speak_for_all(asked):
    questions = WindowQuestions(asked, lambda _: 0.0, most_asked=2)
    likely = [OPEN._replace(specialised=score) for score in (0.7, 0.4, 0.6, 0.5)]
    found = see(questions, 0, *likely)
    questions.close()
    asked.say(True)
    assert [one.settled for one in found] == [False, True, False, False]
    questions.pump()
    assert [one.settled for one in found] == [False, True, False, True]
    asked.say(True)
    assert [one.result() for one in found] == [None, (True, 0.9), None, (True, 0.9)]
    spoken_for = found[0].decision
    assert (spoken_for.stage, spoken_for.label) == (DecidedBy.SPECIALISED, True)
    labels = FrameLabels()
    for place, question in enumerate(found):
        labels.add(place, likely[place], question)
    assert [one.label for one in labels.ready(all_of_them=True)] == [True] * 4


def test_pictures_may_come_with_the_last_look_at_their_window(questions, asked):
    (first, second) = (questions.see((0, 0), number, OPEN, None) for number in (2, 7))
    questions.supply(2, PIXELS)
    questions.supply(7, PIXELS)
    questions.see((1, 0), 32, YES, None)
    asked.say(False)
    assert (first.result(), second.result()) == ((False, 0.9), None)


def test_windows_do_not_wait_for_each_other(questions, asked):
    see(questions, 0, OPEN)
    see(questions, 1, OPEN)
    questions.close()
    assert len(asked.answers) == 2


def test_a_segment_begins_anew_in_the_middle_of_a_window(questions, asked):
    (first,) = see(questions, 0, OPEN)
    questions.see((0, 1), 20, NO, None)
    questions.close()
    asked.say(True)
    assert first.result() == (True, 0.9)


def test_spared_looks_are_audited_with_their_probability(asked):
    questions = WindowQuestions(asked, lambda number: 0.04 if number == 1 else 0.0)
    first, second, _ = see(questions, 0, OPEN, OPEN, NO)
    questions.close()
    asked.say(True)
    assert (first.decision.audit, second.decision.audit) == (0.0, 0.04)
    assert second.decision.stage == DecidedBy.SKIPPED
    assert (first.result(), second.result()) == (None, (True, 0.9))


def test_a_reference_that_fails_is_told_with_the_frame(questions, asked):
    labels = FrameLabels()
    for place, question in enumerate(see(questions, 0, OPEN, OPEN)):
        labels.add(place, OPEN, question)
    questions.close()
    asked.answers[0].set_exception(CpuserveError("no replica answers"))
    with pytest.raises(CpuserveError, match="could not answer frame 0: no replica answers"):
        list(labels.ready(all_of_them=True))
    assert len(asked.answers) == 1


def test_spared_looks_copy_the_label_before_and_others_copy_theirs(questions, asked):
    labels = FrameLabels(label_before=True)
    for place, question in enumerate(see(questions, 0, OPEN, NO)):
        labels.add(2 + 25 * place, (OPEN, NO)[place], question)
    labels.skip_to(30)
    found = list(labels.ready(all_of_them=True))
    assert [one.number for one in found] == list(range(30))
    assert [one.label for one in found] == [True] * 27 + [False] * 3
    assert found[2].stage == DecidedBy.SKIPPED
    assert found[27].stage == DecidedBy.SPECIALISED
    assert found[2].specialised == 0.5
