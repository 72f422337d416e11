"""A cascade as a directory: `cascade.toml` with its thresholds and its promise, and the files it needs."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cpuserve.errors import UsageError
from cpuserve.video.cascade_choice import Choice, PacketRule
from cpuserve.video.query import MIN_AREA, MIN_SCORE, Query
from cpuserve.video.region import Region
from cpuserve.video.scale import Scale
from cpuserve.video.typed_toml import read_typed, without_none
from cpuserve.video.windows import WINDOW_FRAMES

__all__ = [
    "CASCADE_FILE",
    "Cascade",
    "CascadePromise",
    "CnnRule",
    "DifferenceRule",
    "FrameSampling",
    "PacketThresholds",
    "ReferenceModel",
]

CASCADE_FILE = "cascade.toml"
"""The name of the file in the directory of a cascade."""

_FORMAT = 1
_LARGEST_DIFFERENCE = 1e12  # more than any two pictures differ by
_COUNTS = (
    *("positive_windows", "negative_windows", "false_negatives", "false_positives"),
    *("changes", "more_minutes"),
)
_HEADER = "# A cascade for `cpuserve video run`. Its files may not be edited: train again instead.\n"


@dataclass(frozen=True)
class ReferenceModel:
    """The model whose labels the cascade gives at less cost.

    Attributes:
        model: its name in the repository.
        version: its version there.
        checksum: of its files, as `FrameModel.checksum`.
        scale: what frames are scaled to for it.
    """

    model: str
    version: int
    checksum: str
    scale: Scale


@dataclass(frozen=True)
class FrameSampling:
    """The frames that are looked at; all others copy the label of the one before.

    Attributes:
        every: look at each frame whose number is a multiple of this.
        which: the frames that are decoded: ``all``, ``nonref`` (those that no other frame needs are left out)
            or ``nonkey`` (keyframes alone).
        looks: places in each window of 30 frames that are looked at, ascending, in place of ``every``.
        most_asked: of the looks at a window the reference is asked about so many.
    """

    every: int = 1
    which: Literal["all", "nonref", "nonkey"] = "all"
    looks: tuple[int, ...] = ()
    most_asked: int = WINDOW_FRAMES


@dataclass(frozen=True)
class DifferenceRule:
    """A frame that differs by less than ``delta`` from the one it is compared with copies its label.

    Attributes:
        detector: its name, which says what is compared with what, such as ``global:10``.
        delta: the least difference that is a change.
        scale: what frames are scaled to for it.
        file: what `DifferenceDetector.save` wrote.
    """

    detector: str
    delta: float
    scale: Scale
    file: str


@dataclass(frozen=True)
class PacketThresholds:
    """Decides by the sizes of packets, before a frame is scaled.

    Attributes:
        file: the trained feature.
        low: frames whose probability is below this are labelled no.
        high: frames whose probability is above this are labelled yes.
    """

    file: str
    low: float
    high: float


@dataclass(frozen=True)
class CnnRule:
    """A small CNN: a frame below ``c_low`` has no object, one above ``c_high`` has one.

    Attributes:
        cnn: its name.
        file: the IR of it, ``model.xml``; its weights stand beside it.
        scale: what frames are scaled to for it.
        c_low: frames whose probability is below this are labelled no.
        c_high: frames whose probability is above this are labelled yes.
        c_half: windows with half of their looks below this are labelled no; 0 labels none.
    """

    cnn: str
    file: str
    scale: Scale
    c_low: float
    c_high: float
    c_half: float = 0.0


@dataclass(frozen=True)
class CascadePromise:
    """What was promised, or how much more has to be labelled before anything can be.

    Attributes:
        fn: budget: share of the windows with an object that may be missed, 0 to 1.
        fp: budget: share of the windows without one that may be reported, 0 to 1.
        confidence: probability with which both budgets hold.
        promised: whether the bounds below keep the budgets.
        fn_bound: upper bound of the share of missed windows, at that confidence.
        fp_bound: upper bound of the share of falsely reported windows.
        positive_windows: windows with an object that the bounds were computed on.
        negative_windows: windows without one.
        false_negatives: windows missed among those.
        false_positives: windows falsely reported among those.
        changes: changes of the label in that time.
        more_minutes: minutes of video to label before this can be promised; 0 if it is promised.
    """

    fn: float
    fp: float
    confidence: float
    promised: bool
    fn_bound: float
    fp_bound: float
    positive_windows: int
    negative_windows: int
    false_negatives: int
    false_positives: int
    changes: int
    more_minutes: float = 0.0


@dataclass(frozen=True)
class Cascade:
    """All that `cpuserve video run` needs to know.

    Attributes:
        query: what is looked for, such as ``car@0,0.6,1,1``, as the user wrote it.
        classes: its classes as the reference writes them, which may be in another case or have commas; empty
            where they are those of the query as it is read without them.
        reference: the model that answers what the stages before it do not decide.
        promise: what its thresholds promise.
        sampling: the frames that are looked at.
        packets: the decision by sizes of packets; None for none.
        difference: the difference detector; None for none.
        specialised: the specialised CNN; None for none.
        min_score: boxes with a lower probability do not count.
        min_area: share of the region that classes of a segmentation have to cover.
        regions: polygons that the query names: corners x, y in 0..1 of the picture.
        costs: seconds of CPU time a frame of each part, measured in training.
        files: SHA-256 of each file in the directory, by name; `save` computes them.
    """

    query: str
    reference: ReferenceModel
    promise: CascadePromise
    sampling: FrameSampling = FrameSampling()
    packets: PacketThresholds | None = None
    difference: DifferenceRule | None = None
    specialised: CnnRule | None = None
    classes: tuple[str, ...] = ()
    min_score: float = MIN_SCORE
    min_area: float = MIN_AREA
    regions: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def choice(self) -> Choice:
        """Its parts and thresholds, as `cpuserve.video.cascade_choice` chooses them."""
        packets, difference, special = self.packets, self.difference, self.specialised
        return Choice(
            every=self.sampling.every,
            which=self.sampling.which,
            packets=PacketRule(packets.low, packets.high) if packets else None,
            detector=difference.detector if difference else None,
            delta=difference.delta if difference else 0.0,
            cnn=special.cnn if special else None,
            c_low=special.c_low if special else 0.0,
            c_high=special.c_high if special else 1.0,
            looks=self.sampling.looks,
            most_asked=self.sampling.most_asked,
            c_half=special.c_half if special else 0.0,
        )

    def parsed_query(self) -> Query:
        """The query, as `cpuserve.video.query` reads it.

        Raises:
            UsageError: it is none.
        """
        regions = {name: Region.polygon(name, corners) for name, corners in self.regions.items()}
        return Query.parse(
            self.query,
            labels=self.classes,
            regions=regions,
            min_score=self.min_score,
            min_area=self.min_area,
        )

    def save(self, directory: Path) -> Cascade:
        """Write ``cascade.toml`` beside the files it names, which are there already.

        Args:
            directory: the directory of the cascade.

        Returns:
            The cascade with the checksums of its files.

        Raises:
            UsageError: a value makes no sense, or a file is missing.
        """
        import tomli_w  # noqa: PLC0415  # of the extra; not for those who only read

        _check(self)
        sums = {name: _sha256(directory, name, "the cascade") for name in sorted(_named_files(self))}
        whole = dataclasses.replace(self, files=sums)
        document = {"format": _FORMAT, **without_none(dataclasses.asdict(whole))}
        directory.joinpath(CASCADE_FILE).write_text(_HEADER + tomli_w.dumps(document), encoding="utf-8")
        return whole

    @classmethod
    def load(cls, directory: Path) -> Cascade:
        """What `save` wrote.

        Args:
            directory: the directory of the cascade.

        Raises:
            UsageError: there is no cascade, it has another format, a key is unknown or missing, a value makes
                no sense, or a file is missing or not the one of the training; the message names the file.
        """
        file = directory / CASCADE_FILE
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}; video train writes it") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} is no TOML: {error}") from None
        found = document.pop("format", None)
        if found != _FORMAT:
            raise UsageError(f"{file} has format {found!r}, this version reads {_FORMAT}: train again")
        try:
            cascade: Cascade = read_typed(cls, document, "")
            _check(cascade)
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from None
        for name in sorted(_named_files(cascade)):
            if _sha256(directory, name, str(file)) != cascade.files.get(name):
                raise UsageError(
                    f"{directory / name} is not the file that {file} was written for: train again"
                )
        return cascade


def _named_files(cascade: Cascade) -> set[str]:
    """The files a cascade needs, each with the weights that stand beside an IR."""
    names = {part.file for part in (cascade.packets, cascade.difference) if part}
    if cascade.specialised:
        xml = Path(cascade.specialised.file)
        names |= {str(xml), str(xml.with_suffix(".bin"))} if xml.suffix == ".xml" else {str(xml)}
    return names


def _sha256(directory: Path, name: str, whose: str) -> str:
    try:
        with (directory / name).open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{directory / name}, which {whose} names: {error.strerror}") from None


def _check(cascade: Cascade) -> None:
    """Refuse what no training writes."""
    promise = cascade.promise
    wrong = [
        *_between("sampling.every", cascade.sampling.every, 1, 1_000_000),
        *_scale_faults("reference.scale", cascade.reference.scale),
        *(line for name in ("fn", "fp", "confidence")
          for line in _inside(f"promise.{name}", getattr(promise, name))),
        *(line for name in ("fn_bound", "fp_bound")
          for line in _between(f"promise.{name}", getattr(promise, name), 0, 1)),
        *(line for name in _COUNTS
          for line in _between(f"promise.{name}", getattr(promise, name), 0, math.inf)),
        *(line for name, cost in cascade.costs.items()
          for line in _between(f"costs.{name}", cost, 0, math.inf)),
    ]  # fmt: skip
    looks = cascade.sampling.looks
    wrong += [line for place in looks for line in _between("sampling.looks", place, 0, WINDOW_FRAMES - 1)]
    if list(looks) != sorted(set(looks)):
        wrong.append(f"sampling.looks is {list(looks)}, not ascending")
    wrong += _between("sampling.most_asked", cascade.sampling.most_asked, 1, WINDOW_FRAMES)
    others = cascade.packets or cascade.difference or cascade.sampling.every > 1
    if looks and (others or cascade.sampling.which != "all"):
        wrong.append("sampling.looks goes with no packets, no difference and no other sampling")
    if cascade.difference:
        wrong += _scale_faults("difference.scale", cascade.difference.scale)
        wrong += _between("difference.delta", cascade.difference.delta, 0, _LARGEST_DIFFERENCE)
    if packets := cascade.packets:
        wrong += _between("packets.low", packets.low, 0, 1)
        wrong += _between("packets.high", packets.high, packets.low, 1)
    if special := cascade.specialised:
        wrong += _scale_faults("specialised.scale", special.scale)
        wrong += _between("specialised.c_low", special.c_low, 0, 1)
        wrong += _between("specialised.c_high", special.c_high, special.c_low, 1)
        wrong += _between("specialised.c_half", special.c_half, 0, special.c_high)
    wrong += [
        f"{name!r} is no file name" for name in sorted(_named_files(cascade)) if Path(name).name != name
    ]
    cascade.parsed_query()
    if wrong:
        raise UsageError(wrong[0])


def _scale_faults(name: str, scale: Scale) -> list[str]:
    faults = [
        *_between(f"{name}.width", scale.width, 1, 16_384),
        *_between(f"{name}.height", scale.height, 1, 16_384),
    ]
    x0, y0, x1, y1 = scale.region or (0, 0, 1, 1)
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        faults.append(f"{name}.region is {scale.region}, not x0 < x1 and y0 < y1 in 0 to 1")
    return faults


def _between(name: str, value: float, least: float, most: float) -> list[str]:
    return [] if least <= value <= most else [f"{name} is {value}, not in {least:g} to {most:g}"]


def _inside(name: str, value: float) -> list[str]:
    return [] if 0 < value < 1 else [f"{name} is {value}, not above 0 and below 1"]
