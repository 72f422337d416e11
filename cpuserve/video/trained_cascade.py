"""Makes the file of a cascade of what was learnt and what was chosen."""

from __future__ import annotations

from cpuserve.video.cascade_choice import Choice
from cpuserve.video.cascade_file import (
    Cascade,
    CascadePromise,
    CnnRule,
    DifferenceRule,
    FrameSampling,
    PacketThresholds,
)
from cpuserve.video.chosen_cascade import ChosenCascade
from cpuserve.video.specialised_cnn import SpecialisedCnn
from cpuserve.video.training_files import PACKETS_FILE, Learnt, difference_file

__all__ = ["cascade_of"]


def cascade_of(learnt: Learnt, chosen: ChosenCascade) -> Cascade:
    """The cascade that was chosen.

    Args:
        learnt: all parts.
        chosen: the choice among them.
    """
    choice, query = chosen.choice, learnt.facts.query
    region = query.region
    named = region is not None and not region.name.replace(",", "").replace(".", "").strip().isdecimal()
    return Cascade(
        query=query.text,
        reference=learnt.facts.reference,
        promise=_promise(chosen),
        sampling=FrameSampling(choice.every, choice.which, choice.looks, choice.most_asked),
        packets=_packets(choice),
        difference=_difference(learnt, choice),
        specialised=_specialised(learnt, choice),
        classes=query.classes,
        min_score=query.min_score,
        min_area=query.min_area,
        regions={region.name: region.corners} if region is not None and named else {},
        costs=dict(learnt.table.costs),
    )


def _packets(choice: Choice) -> PacketThresholds | None:
    rule = choice.packets
    return None if rule is None else PacketThresholds(PACKETS_FILE, rule.low, rule.high)


def _difference(learnt: Learnt, choice: Choice) -> DifferenceRule | None:
    if choice.detector is None:
        return None
    scale = learnt.detectors[choice.detector].scale
    return DifferenceRule(choice.detector, choice.delta, scale, difference_file(choice.detector))


def _specialised(learnt: Learnt, choice: Choice) -> CnnRule | None:
    if choice.cnn is None:
        return None
    path = learnt.cnns[choice.cnn]
    thresholds = choice.c_low, choice.c_high, choice.c_half
    return CnnRule(choice.cnn, path.name, SpecialisedCnn(path).scale, *thresholds)


def _promise(chosen: ChosenCascade) -> CascadePromise:
    promise = chosen.promise
    fn, fp = promise.fn, promise.fp
    return CascadePromise(
        fn=promise.budgets.fn,
        fp=promise.budgets.fp,
        confidence=promise.budgets.confidence,
        promised=promise.promised,
        fn_bound=1.0 if fn is None else fn.bound,
        fp_bound=1.0 if fp is None else fp.bound,
        positive_windows=0 if fn is None else fn.windows,
        negative_windows=0 if fp is None else fp.windows,
        false_negatives=0 if fn is None else fn.wrong,
        false_positives=0 if fp is None else fp.wrong,
        changes=promise.counts["test"].changes,
        more_minutes=promise.more_minutes,
    )
