"""The scores of every frame of the training clips: all that is needed to choose a cascade without decoding.

A row is a frame. Frames that a cascade looks at follow from two numbers, ``every`` and ``which``
(see `looked_at`), and so do the frames that a difference detector compares with (`anchors`).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.engine import Array
from cpuserve.video.outputs.tables import check_pyarrow

__all__ = ["PARTS", "ScoreTable", "Which", "difference_column"]

Which = Literal["all", "nonref", "nonkey"]
PARTS = ("train", "choose", "test")  # ScoreTable.part holds the place of one of them
_FORMAT = 1


@dataclass(frozen=True)
class ScoreTable:
    """Scores and labels by frame, and what each part costs.

    Attributes:
        number: i64 [n], place of the frame in its clip, from 0, ascending within a clip.
        time_s: f64 [n], time of the frame.
        packet_bytes: i64 [n], size of its packet.
        key: bool [n], a keyframe.
        disposable: bool [n], no other frame is predicted from it: ``nonref`` leaves it out.
        first: bool [n], the first of a segment: nothing before it may be compared with it.
        video: i16 [n], place of its clip in ``videos``.
        part: u8 [n], place in `PARTS` of what it is used for. Weights are learnt on ``train`` alone.
        label: bool [n], the reference says that the object is there; False where not labelled.
        reference_score: f32 [n], how strongly, 0 to 1; 0 where not labelled.
        labelled: bool [n], the reference was asked.
        differences: column by name, f32 [n]; infinite where there is no frame to compare with, NaN for
            frames that are not looked at. Names of columns are those of `difference_column`.
        specialised: probability by network that the object is there, f32 [n].
        packets: probability from packet sizes alone, f32 [n]; None: they say nothing about this query.
        costs: CPU seconds a frame, of ``decode:all``, ``decode:nonref``, ``decode:nonkey``, ``scale``,
            ``difference:NAME``, ``specialised:NAME``, ``packets`` and ``reference``.
        videos: names of the clips.
        frame_rate: frames a second.
        query: as the user wrote it.
        notes: what was found while learning, in sentences.
    """

    number: Array
    time_s: Array
    packet_bytes: Array
    key: Array
    label: Array
    reference_score: Array
    labelled: Array
    disposable: Array
    first: Array
    video: Array
    part: Array
    differences: Mapping[str, Array] = field(default_factory=dict)
    specialised: Mapping[str, Array] = field(default_factory=dict)
    packets: Array | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    videos: tuple[str, ...] = ("",)
    frame_rate: float = 25.0
    query: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, column in self._columns().items():
            if column.shape != self.number.shape:
                raise ValueError(f"column {name} has shape {column.shape}, not {self.number.shape}")

    def __len__(self) -> int:
        return len(self.number)

    def decoded(self, which: Which) -> Array:
        """Decoded frames, bool [n]: ``nonref`` leaves out disposable ones, ``nonkey`` all but keys."""
        if which == "nonref":
            found: Array = ~self.disposable
            return found
        return self.key.copy() if which == "nonkey" else np.ones(len(self), bool)

    def looked_at(self, every: int, which: Which = "all") -> Array:
        """Which frames a cascade looks at: bool [n].

        Of each ``every`` frames, counted from the start of the clip, the first that is decoded, and the first
        decoded one of each segment.
        """
        decoded = np.flatnonzero(self.decoded(which))
        segment = np.cumsum(self.first)[decoded]
        block = self.number[decoded] // every
        new = np.ones(len(decoded), bool)
        new[1:] = (block[1:] != block[:-1]) | (segment[1:] != segment[:-1])
        found = np.zeros(len(self), bool)
        found[decoded[new]] = True
        return found

    def anchors(self, detector: str, every: int, which: Which = "all") -> Array:
        """The row whose label each frame takes when it does not differ, i64 [n]; -1 where there is none.

        A detector ``NAME:D`` compares with the last frame looked at that is at least D frames earlier in the
        same segment; ``average`` tells whether something moved, so that the label is that of the frame looked
        at before. A detector ``NAME:reference`` compares with a picture without the object: its anchor is
        always -1, and no difference means that the object is not there.
        """
        anchors = np.full(len(self), -1, np.int64)
        if detector.endswith(":reference"):
            return anchors
        seen = np.flatnonzero(self.looked_at(every, which))
        delay = 1 if detector == "average" else int(detector.partition(":")[2])
        starts = np.flatnonzero(self.first)
        start = starts[np.searchsorted(starts, seen, side="right") - 1]
        # numbers begin anew in each clip: a place in a row of clips is unique
        offset = self.video[seen].astype(np.int64) << 40
        wanted = self.number[seen] - delay + offset
        place = np.searchsorted(self.number[seen] + offset, wanted, side="right") - 1
        found = np.where(place >= 0, seen[place], -1)
        anchors[seen] = np.where(found >= start, found, -1)
        return anchors

    def difference(self, detector: str, every: int, which: Which = "all") -> Array | None:
        """The column of a detector for the frames looked at, f32 [n]; None where it was not computed."""
        name = difference_column(detector, every, which)
        return None if name is None else self.differences.get(name)

    def save(self, path: Path) -> None:
        """Writes ``.npz`` or, with the extra ``parquet``, ``.parquet``.

        Raises:
            UsageError: the name has another ending.
            MissingExtra: pyarrow is not installed.
        """
        facts = json.dumps({"format": _FORMAT, **{name: getattr(self, name) for name in _FACTS}})
        if path.suffix == ".npz":
            np.savez_compressed(path, facts=np.array(facts), **self._columns())  # type: ignore[arg-type]
            return
        pyarrow, parquet = _parquet(path)
        table = pyarrow.table(self._columns()).replace_schema_metadata({"cpuserve": facts})
        parquet.write_table(table, path)

    @classmethod
    def load(cls, path: Path) -> ScoreTable:
        """Reads what `save` wrote.

        Raises:
            UsageError: the file is none, is damaged, or of another version.
        """
        try:
            facts, columns = _read(path)
            if facts["format"] != _FORMAT:
                raise UsageError(
                    f"{path} is of format {facts['format']}, this version reads {_FORMAT}: train again"
                )
            given: dict[str, Any] = {name: facts[name] for name in _FACTS}
            given["videos"], given["notes"] = tuple(facts["videos"]), tuple(facts["notes"])
            groups: dict[str, dict[str, Array]] = {"difference": {}, "specialised": {}}
            for name, column in columns.items():
                group, dot, rest = name.partition(".")
                if dot:
                    groups[group][rest] = column
                else:
                    given[name] = column
            return cls(**given, differences=groups["difference"], specialised=groups["specialised"])
        except OSError as error:
            raise UsageError(f"the scores {path} cannot be read: {error.strerror or error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} holds no scores of `cpuserve video train`: {error}") from error

    def _columns(self) -> dict[str, Array]:
        plain = {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if entry.name not in (*_FACTS, "differences", "specialised")
        }
        return {
            **{name: column for name, column in plain.items() if column is not None},
            **{f"difference.{name}": column for name, column in self.differences.items()},
            **{f"specialised.{name}": column for name, column in self.specialised.items()},
        }


_FACTS = ("costs", "videos", "frame_rate", "query", "notes")


def difference_column(detector: str, every: int, which: Which = "all") -> str | None:
    """The column of `ScoreTable.differences` for a detector and the frames that are looked at.

    Args:
        detector: ``global:D`` and ``blocked:D`` compare with a frame D frames earlier,
            ``global:reference`` and ``blocked:reference`` with a picture without the object, ``average``
            with a running average.
        every: of so many frames one is looked at.
        which: frames that are decoded.

    Returns:
        None where the detector cannot compare: D is no multiple of ``every``.
    """
    _name, _, against = detector.partition(":")
    if against == "reference":
        return detector
    if not against:
        return f"{detector}/{which}:{every}"
    if int(against) % every:
        return None
    return detector if which == "all" else f"{detector}/{which}:{every}"


def _parquet(path: Path) -> tuple[Any, Any]:
    if path.suffix != ".parquet":
        raise UsageError(f"scores are kept in .npz or .parquet files, not in {path.name}")
    check_pyarrow()
    import pyarrow as pa  # noqa: PLC0415  # an extra
    from pyarrow import parquet  # noqa: PLC0415

    return pa, parquet


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """What a file says of the table, and its columns.

    Raises:
        UsageError: the file has another ending.
        MissingExtra: pyarrow is not installed.
        OSError, ValueError, KeyError: it cannot be read, or is damaged.
    """
    if path.suffix == ".npz":
        try:
            with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
                columns = {name: file[name] for name in file.files}
        except (EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(str(error)) from error
        return json.loads(str(columns.pop("facts"))), columns
    pyarrow, parquet = _parquet(path)
    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(str(error)) from error
    facts = json.loads((table.schema.metadata or {})[b"cpuserve"])
    return facts, {name: table[name].to_numpy() for name in table.column_names}
