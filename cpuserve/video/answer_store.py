"""Keeps what a reference model answered to the frames of a video, so that none is asked about twice."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import orjson

from cpuserve.authoring.download import default_cache
from cpuserve.errors import UsageError
from cpuserve.serving.decode import Pixels
from cpuserve.video.scale import Scale

__all__ = ["AnswerStore", "KeptAnswer", "default_answers", "file_checksum"]


@dataclass(frozen=True)
class KeptAnswer:
    """What the reference answered to a frame, whatever the query.

    Attributes:
        answer: of ``/predictions/MODEL``.
        width: of the picture that boxes are measured in, in pixels.
        height: likewise.
        mask: u8 [height, width] of class ids, of a segmenter; else None.
    """

    answer: dict[str, Any]
    width: int
    height: int
    mask: Pixels | None = None


class AnswerStore:
    """The answers of one model to the frames of one video: a file with a line a frame, only ever added to.

    What an interrupted run had asked is kept. The file is named after the checksums of the video and of the
    model and after what frames are scaled to, so that answers of others are never taken for these.

    Args:
        directory: where such files are; made if it is not there.
        video: checksum of the video file.
        model: name of the model.
        checksum: of the model's files.
        scale: what frames were scaled to for the model.

    Raises:
        UsageError: the directory or the file cannot be read or written, or another training uses it.
    """

    def __init__(self, directory: Path, video: str, model: str, checksum: str, scale: Scale) -> None:
        words = f"{checksum}{scale}"
        plain = re.sub(r"[^\w.-]+", "-", model)
        name = f"{video[:24]}-{plain}-{hashlib.sha256(words.encode()).hexdigest()[:24]}.jsonl"
        self.path = directory / name
        self._kept: dict[int, bytes] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab+")
            self._lock()
            self._file.seek(0)
            content = self._file.read()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):  # the last line of a run that was killed
                os.truncate(self.path, len(whole))
        except OSError as error:
            raise UsageError(
                f"the answers of the reference cannot be kept in {error.filename}: {error.strerror}; name "
                "another directory by --answers"
            ) from error
        try:
            for line in whole.splitlines():
                self._kept[_number(self.path, line)] = line
        except UsageError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, number: int) -> bool:
        return number in self._kept

    def __iter__(self) -> Iterator[int]:
        return iter(self._kept)

    def get(self, number: int) -> KeptAnswer | None:
        """The answer to a frame, or None if there is none yet."""
        line = self._kept.get(number)
        if line is None:
            return None
        try:
            entry = orjson.loads(line)
            return KeptAnswer(
                entry["answer"], entry["width"], entry["height"], _mask_of(entry.get("mask", ""))
            )
        except (KeyError, TypeError, ValueError, cv2.error) as error:
            raise _damaged(self.path) from error

    def put(self, number: int, kept: KeptAnswer) -> None:
        """Adds the answer to a frame.

        Raises:
            UsageError: it cannot be written.
        """
        entry: dict[str, Any] = {
            "frame": number,
            "width": kept.width,
            "height": kept.height,
            "answer": kept.answer,
        }
        if kept.mask is not None:
            entry["mask"] = base64.b64encode(_png(kept.mask)).decode()
        line = orjson.dumps(entry)
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror}") from error
        self._kept[number] = line

    def _lock(self) -> None:
        """Keeps other trainings out: lines of two would mix.

        Raises:
            UsageError: another one is in.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UsageError(
                f"another training labels this video: wait for it, or keep other answers than {self.path} by "
                "--answers"
            ) from error

    def close(self) -> None:
        """Writes what is not written yet."""
        self._file.close()


def default_answers() -> Path:
    """The directory where answers are kept unless the user names another."""
    return default_cache() / "video-answers"


def file_checksum(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _number(path: Path, line: bytes) -> int:
    try:
        number = orjson.loads(line)["frame"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(number, int):
        raise _damaged(path)
    return number


def _damaged(path: Path) -> UsageError:
    return UsageError(f"the answers of the reference in {path} are damaged: delete that file and train again")


def _png(mask: Pixels) -> bytes:
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return cv2.imencode(".png", mask, fast)[1].tobytes()


def _mask_of(text: str) -> Pixels | None:
    if not text:
        return None
    found = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_GRAYSCALE)
    if found is None:
        raise ValueError("the mask is no PNG")
    return found.astype(np.uint8, copy=False)
