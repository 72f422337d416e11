"""What a cascade decides about a frame in the process that decodes it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cpuserve.video.audit import is_audited, probability_of_audit
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.decoding import StageResult
from cpuserve.video.difference import DifferenceDetector
from cpuserve.video.held_looks import HeldLooks
from cpuserve.video.packet_features import PacketFeature
from cpuserve.video.specialised_cnn import SpecialisedCnn
from cpuserve.video.window_looks import half_of
from cpuserve.video.windows import WINDOW_FRAMES

if TYPE_CHECKING:
    from cpuserve.serving.engine import Array
    from cpuserve.video.cascade_file import Cascade
    from cpuserve.video.frame import Frame
    from cpuserve.video.segments import Segment
    from cpuserve.video.video_file import VideoFile

__all__ = [
    "ALL_TO_THE_REFERENCE",
    "REFERENCE_PICTURE",
    "SKIPPED",
    "CascadeStage",
    "Decision",
    "Thresholds",
]

REFERENCE_PICTURE = "reference"
"""The name of the picture for the reference, of frames that it is asked about.

Pictures of earlier frames, which come with the last look at their window, have the numbers of these as names.
"""

_NEAR = 0.5  # of the way from a threshold to the end of the scores it decides


class Decision(NamedTuple):
    """What is known of a frame before the reference is asked.

    Attributes:
        stage: who decides: of `DecidedBy`.
        label: of those that packets or the CNN decide, and those equal to a picture without the object.
        anchor: number of the frame whose label it copies, of others -1.
        difference: what the detector says, or NaN.
        specialised: what the CNN says, or NaN.
        packets: what the sizes of packets say, or NaN.
        audit: probability with which it was chosen to be audited; 0: it was not.
        width: of the frame, in pixels.
        height: of the frame, in pixels.
        cpu_ns: CPU time of the decoder's process since the frame before, this one's decision included.
    """

    stage: int
    label: bool
    anchor: int
    difference: float
    specialised: float
    packets: float
    audit: float
    width: int
    height: int
    cpu_ns: int = 0


@dataclass(frozen=True)
class Thresholds:
    """What decides about a frame.

    Attributes:
        every: of so many frames one is looked at.
        looks: places in each window of 30 frames that are looked at, in place of ``every``.
        packets_low: frames whose packets give less than this are labelled no.
        packets_high: frames whose packets give more are labelled yes.
        delta: frames that differ by less than this have not changed.
        c_low: frames that the CNN gives less than this are labelled no.
        c_high: frames that it gives more are labelled yes.
        c_half: a window with half of its looks below this is labelled no.
        reference_only: every frame goes to the reference.
    """

    every: int = 1
    looks: tuple[int, ...] = ()
    packets_low: float = 0.0
    packets_high: float = 1.0
    delta: float = 0.0
    c_low: float = 0.0
    c_high: float = 1.0
    c_half: float = 0.0
    reference_only: bool = False

    @classmethod
    def of(cls, cascade: Cascade) -> Thresholds:
        """Those that were trained."""
        choice = cascade.choice
        low, high = (choice.packets.low, choice.packets.high) if choice.packets else (0.0, 1.0)
        cnn = choice.c_low, choice.c_high, choice.c_half
        return cls(choice.every, choice.looks, low, high, choice.delta, *cnn)


SKIPPED = Decision(int(DecidedBy.SKIPPED), False, -1, math.nan, math.nan, math.nan, 0.0, 0, 0)
"""About a frame that was not looked at."""

ALL_TO_THE_REFERENCE = Thresholds(reference_only=True)
"""No stage decides."""


class CascadeStage:
    """Decides about frames, and gives those for the reference a picture of the size it takes.

    The detector and the CNN are those of the training. A segment starts afresh, so that a decision does not
    depend on who decoded the segment before.

    Args:
        directory: of the cascade, with its files.
        cascade: what was read of it.
        thresholds: in force.
        audit_rate: smallest probability with which a decided frame is audited; 0 audits none.
        seed: of the audit.
        name: of the video, for the audit.
        live: frames come from a live source: those that are skipped are told too, as others are dropped. Of
            files they need not be, but for the last one of what is decoded at a time: it tells how many there
            are, which packets do not always, and the CPU time.
    """

    def __init__(
        self,
        directory: Path,
        cascade: Cascade,
        thresholds: Thresholds,
        *,
        audit_rate: float = 0.0,
        seed: int = 0,
        name: str = "",
        live: bool = False,
    ) -> None:
        self._live = live
        self._name = name
        self._directory = directory
        self._cascade = cascade
        self._thresholds = thresholds
        self._audit_rate = audit_rate
        self._seed = seed
        self._detector: DifferenceDetector | None = None
        self._cnn: SpecialisedCnn | None = None
        self._packets: Array | None = None  # probability by frame of the file
        self._block = -1  # the last of the blocks of ``every`` frames that one was looked at of
        self._last = -1  # number of the last frame looked at
        self._denied = -1  # the last window that a look found negative
        self._below = (-1, 0)  # the last window with looks below ``c_half``, and how many
        self._held: HeldLooks | None = None
        self._untold = False  # whether the latest frame was left out
        self._mark = 0  # of the CPU time of this process

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_detector": None, "_cnn": None, "_packets": None, "_held": None, "_mark": 0}

    def prepare(self) -> None:
        """Load the network, which is the same for all files."""
        special = self._cascade.specialised
        if special is not None and not self._thresholds.reference_only:
            self._network(special.file)

    def _network(self, name: str) -> SpecialisedCnn:
        return _loaded(self._directory / name, self._cascade.files.get(name, ""))

    def start(self, video: VideoFile, segment: Segment) -> None:
        """Load what decides in the first segment; forget the frames before."""
        self._mark = self._mark or time.process_time_ns()
        if self._thresholds.reference_only:
            return
        packets = self._cascade.packets
        if packets is not None and self._packets is None:
            feature = PacketFeature.load(self._directory / packets.file)
            self._packets = feature.probability(video.packet_bytes, video.key)
        difference, special = self._cascade.difference, self._cascade.specialised
        if difference is not None and self._detector is None:
            self._detector = DifferenceDetector.load(self._directory / difference.file)
        if special is not None and self._cnn is None:
            self._cnn = self._network(special.file)
        if self._detector is not None:
            self._detector.reset()
        self._close_window()
        self._block = self._last = self._denied = -1
        self._below = (-1, 0)

    def _close_window(self) -> None:
        """Make the pictures of the window whose looks are held."""
        if self._held is None:
            most, scale = self._cascade.sampling.most_asked, self._cascade.reference.scale
            self._held = HeldLooks(scale, most, lambda number: self._audit(number, near=True) > 0)
        elif self._held.window >= 0:
            self._held.close(denied=self._held.window == self._denied)

    def __call__(self, frame: Frame) -> StageResult | None:
        """Decide about a frame; the value is a `Decision`. None: it is skipped."""
        found = self._with_held(self._decide(frame), frame.number)
        self._untold = found is None
        return None if found is None else self._timed(found)

    def late(self) -> StageResult | None:
        """The decision about the latest frame, if it was left out, and pictures that are still held."""
        untold, self._untold = self._untold, False
        self._close_window()
        found = self._with_held(StageResult(SKIPPED) if untold else None, -1)
        return None if found is None else self._timed(found)

    def _with_held(self, found: StageResult | None, number: int) -> StageResult | None:
        """What came of a frame, with the pictures of earlier ones that are due."""
        pictures = {} if self._held is None else self._held.take()
        if not pictures:
            return found
        found = found or StageResult(SKIPPED)
        names = {one: REFERENCE_PICTURE if one == number else str(one) for one in pictures}
        found.pictures |= {names[one]: pixels for one, pixels in pictures.items()}
        return found

    def _timed(self, found: StageResult) -> StageResult:
        now = time.process_time_ns()
        found.value = found.value._replace(cpu_ns=now - self._mark)
        self._mark = now
        return found

    def _decide(self, frame: Frame) -> StageResult | None:
        if self._thresholds.reference_only:
            return self._with_picture(frame, self._decision(frame, DecidedBy.REFERENCE))
        if self._thresholds.looks:
            return self._in_window(frame)
        block = frame.number // self._thresholds.every
        if block == self._block:
            decision, near = self._decision(frame, DecidedBy.SKIPPED, anchor=self._last), False
        else:
            self._block, self._last = block, frame.number
            decision, near = self._look(frame)
        return self._audited(frame, decision, near=near)

    def _in_window(self, frame: Frame) -> StageResult | None:
        """Decide about a frame by its place in its window."""
        window, place = divmod(frame.number, WINDOW_FRAMES)
        if self._held is not None and self._held.window not in (-1, window):
            self._close_window()  # its last look was not decoded
        if place not in self._thresholds.looks:
            if not self._live and not self._audit(frame.number, near=False):
                return None
            return self._audited(frame, self._decision(frame, DecidedBy.SKIPPED), near=False)
        found = self._look_in_window(frame, window)
        if place == self._thresholds.looks[-1]:
            self._close_window()
        return found

    def _look_in_window(self, frame: Frame, window: int) -> StageResult:
        decision, near = self._look(frame)
        if decision.specialised < self._thresholds.c_half:
            seen = self._below[1] + 1 if self._below[0] == window else 1
            self._below = window, seen
            if decision.stage == DecidedBy.REFERENCE and seen == half_of(self._thresholds.looks):
                decision = decision._replace(stage=int(DecidedBy.SPECIALISED))  # which says no
                near = decision.specialised > _NEAR * self._thresholds.c_half
        if decision.stage == DecidedBy.REFERENCE and window == self._denied:
            skipped = decision._replace(stage=int(DecidedBy.SKIPPED))  # the window is negative anyway
            return self._audited(frame, skipped, near=True)
        if decision.stage == DecidedBy.SPECIALISED and not decision.label:
            self._denied = window
        if decision.stage == DecidedBy.REFERENCE and not self._live and self._held is not None:
            self._held.add(window, frame, decision.specialised)
            return StageResult(decision)
        return self._audited(frame, decision, near=near)

    def _audited(self, frame: Frame, decision: Decision, *, near: bool) -> StageResult:
        """The decision, with a picture where the reference is asked."""
        if decision.stage == DecidedBy.REFERENCE:
            return self._with_picture(frame, decision)
        probability = self._audit(frame.number, near=near)
        if probability:
            return self._with_picture(frame, decision._replace(audit=probability))
        return StageResult(decision)

    def _audit(self, number: int, *, near: bool) -> float:
        """With which probability a decided frame was chosen to be audited; 0: it was not."""
        probability = probability_of_audit(self._audit_rate, near=near)
        return probability if is_audited(self._seed, self._name, number, probability) else 0.0

    def _look(self, frame: Frame) -> tuple[Decision, bool]:
        """The decision, and whether a score was near the threshold."""
        limits, difference, packets = self._thresholds, math.nan, math.nan
        found = None
        if self._detector is not None:  # also where others decide: later frames are compared with this one
            found = self._detector.step(frame.number, frame.scaled(self._detector.scale))
            difference = float(np.float32(found.value))  # as the scores that thresholds were chosen on
        if self._packets is not None:
            packets = float(self._packets[frame.number])
            if packets < limits.packets_low or packets > limits.packets_high:
                near = _is_near(packets, limits.packets_low, limits.packets_high)
                label = packets > limits.packets_high
                decision = self._decision(frame, DecidedBy.PACKETS, label=label, difference=difference)
                return decision._replace(packets=packets), near
        if found is not None and difference < limits.delta:
            anchor = -1 if found.anchor is None else found.anchor
            decision = self._decision(frame, DecidedBy.DIFFERENCE, anchor=anchor, difference=difference)
            return decision._replace(packets=packets), difference > _NEAR * limits.delta
        score = math.nan
        if self._cnn is not None:
            score = float(self._cnn.predict(frame.scaled(self._cnn.scale)[None])[0])
            if score < limits.c_low or score > limits.c_high:
                decision = self._decision(
                    *(frame, DecidedBy.SPECIALISED),
                    label=score > limits.c_high,
                    difference=difference,
                    specialised=score,
                )
                near = _is_near(score, limits.c_low, limits.c_high)
                return decision._replace(packets=packets), near
        decision = self._decision(frame, DecidedBy.REFERENCE, difference=difference, specialised=score)
        return decision._replace(packets=packets), False

    @staticmethod
    def _decision(
        frame: Frame,
        stage: DecidedBy,
        *,
        label: bool = False,
        anchor: int = -1,
        difference: float = math.nan,
        specialised: float = math.nan,
    ) -> Decision:
        size = frame.width, frame.height
        return Decision(int(stage), label, anchor, difference, specialised, math.nan, 0.0, *size)

    def _with_picture(self, frame: Frame, decision: Decision) -> StageResult:
        return StageResult(decision, {REFERENCE_PICTURE: frame.scaled(self._cascade.reference.scale)})


@lru_cache(maxsize=1)
def _loaded(path: Path, _checksum: str) -> SpecialisedCnn:
    """A network, loaded once in a process that decodes several files."""
    return SpecialisedCnn(path)


def _is_near(score: float, low: float, high: float) -> bool:
    """Whether a probability that decided is near the threshold that it passed."""
    return score > _NEAR * low and 1 - score > _NEAR * (1 - high)
