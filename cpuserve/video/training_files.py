"""The directory that training writes, with all that another cascade can be chosen from without decoding."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.engine import Array
from cpuserve.video.cascade_file import CASCADE_FILE, ReferenceModel
from cpuserve.video.difference import DifferenceDetector
from cpuserve.video.packet_features import PacketFeature
from cpuserve.video.query import Query
from cpuserve.video.region import Region
from cpuserve.video.scale import Scale
from cpuserve.video.score_table import ScoreTable

__all__ = [
    "PACKETS_FILE",
    "Learnt",
    "TrainingFacts",
    "VideoFacts",
    "check_target",
    "difference_file",
    "new_directory",
]

PACKETS_FILE = "packets.npz"
_FACTS_FILE, _SCORES, _PICTURES = "training.json", "scores", "pictures.npy"
_FORMAT = 1


@dataclass(frozen=True)
class VideoFacts:
    """A training video.

    Attributes:
        path: where it was.
        checksum: its SHA-256.
        width: of its frames, in pixels.
        height: likewise.
    """

    path: str
    checksum: str
    width: int
    height: int


@dataclass(frozen=True)
class TrainingFacts:
    """What was trained on.

    Attributes:
        videos: in the order of `ScoreTable.video`.
        reference: the model.
        labels: names of its classes; empty if they are not known.
        own_labels: whether the labels are the user's own instead of its answers.
        query: what is asked.
    """

    videos: tuple[VideoFacts, ...]
    reference: ReferenceModel
    labels: tuple[str, ...]
    own_labels: bool
    query: Query


@dataclass
class Learnt:
    """All that was learnt, of which a cascade takes a part.

    Attributes:
        facts: what it was learnt from.
        table: the scores.
        pictures: u8 [n, h, w, 3], a row a frame.
        detectors: by name.
        packets: the packet feature, if it says anything.
        cnns: the IR of each specialised network, by name.
    """

    facts: TrainingFacts
    table: ScoreTable
    pictures: Array
    detectors: Mapping[str, DifferenceDetector] = field(default_factory=dict)
    packets: PacketFeature | None = None
    cnns: Mapping[str, Path] = field(default_factory=dict)

    def save(self, directory: Path, ending: str) -> None:
        """Writes everything into a directory.

        Args:
            directory: where it is written.
            ending: of the table's file, ``.npz`` or ``.parquet``.
        """
        facts = {"format": _FORMAT, **asdict(self.facts)}
        (directory / _FACTS_FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        self.table.save(directory / f"{_SCORES}{ending}")
        np.save(directory / _PICTURES, self.pictures)
        for name, detector in self.detectors.items():
            detector.save(directory / difference_file(name))
        if self.packets is not None:
            self.packets.save(directory / PACKETS_FILE)
        for path in self.cnns.values():
            for file in (path, path.with_suffix(".bin")):
                if file.parent.resolve() != directory.resolve():
                    shutil.copyfile(file, directory / file.name)

    @classmethod
    def load(cls, scores: Path) -> Learnt:
        """Reads what `save` wrote.

        Args:
            scores: the table's file; the others lie beside it.

        Raises:
            UsageError: a file cannot be read or is none.
        """
        table, folder = ScoreTable.load(scores), scores.parent
        facts = _facts(folder / _FACTS_FILE)
        names = {column.partition("/")[0] for column in table.differences}
        try:
            pictures = np.load(folder / _PICTURES, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UsageError(f"{folder / _PICTURES} beside the scores holds no pictures: {error}") from error
        if len(pictures) != len(table):
            raise UsageError(
                f"{folder / _PICTURES} has {len(pictures)} pictures and {scores} {len(table)} frames: they "
                "are of different trainings"
            )
        return cls(
            facts,
            table,
            pictures,
            {name: DifferenceDetector.load(folder / difference_file(name)) for name in sorted(names)},
            None if table.packets is None else PacketFeature.load(folder / PACKETS_FILE),
            {name: folder / f"{name}.xml" for name in table.specialised},
        )


def difference_file(detector: str) -> str:
    """The name of the file of a detector."""
    return f"difference-{detector.replace(':', '-')}.npz"


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yields a directory beside ``target`` that takes its place at the end; an error leaves nothing behind.

    Raises:
        UsageError: ``target`` is something else than the directory of an earlier training, or cannot be
            written.
    """
    target = target.absolute()
    check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error
    try:
        yield made
        made.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            target.rename(old / "old")
            made.rename(target)
            shutil.rmtree(old)
        else:
            made.rename(target)
    finally:
        if made.exists():
            shutil.rmtree(made)


def check_target(target: Path) -> None:
    """Refuses a directory that training would overwrite and that holds something else.

    Raises:
        UsageError: it does.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file: -o names a directory")
    if any(target.iterdir()) and not (target / CASCADE_FILE).is_file():
        raise UsageError(
            f"the directory {target} has other files in it and no {CASCADE_FILE}: name another one by -o, or "
            "empty it"
        )


def _query(content: dict[str, Any]) -> Query:
    region = content.pop("region")
    if region is not None:
        region = Region(region["name"], tuple((x, y) for x, y in region["corners"]))
    return Query(**{**content, "classes": tuple(content["classes"])}, region=region)


def _facts(path: Path) -> TrainingFacts:
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != _FORMAT:
            raise UsageError(f"{path} is of another version: train again")
        reference = content["reference"]
        scale = reference.pop("scale")
        if scale["region"] is not None:
            scale["region"] = tuple(scale["region"])
        return TrainingFacts(
            tuple(VideoFacts(**video) for video in content["videos"]),
            ReferenceModel(**reference, scale=Scale(**scale)),
            tuple(content["labels"]),
            bool(content["own_labels"]),
            _query(content["query"]),
        )
    except OSError as error:
        raise UsageError(f"{path}, which lies beside the scores, cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is not what `cpuserve video train` wrote: {error}") from error
