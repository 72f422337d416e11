"""What the sizes of a file's packets say about a query, without decoding: a learnt feature."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpuserve.errors import UsageError
from cpuserve.serving.engine import Array
from cpuserve.video.logistic import Logistic, fit_logistic

__all__ = ["PacketFeature", "fit_packets", "packet_sizes"]

_SMOOTHED = (2.0, 8.0, 32.0)  # frames after which a packet counts half
_RIDGE = 10.0


@dataclass(frozen=True)
class PacketFeature:
    """A trained feature.

    Attributes:
        weights: of the columns of `packet_sizes`.
    """

    weights: Logistic

    def probability(self, packet_bytes: Array, key: Array) -> Array:
        """Probability that the object is there by frame of a file, f32 [n].

        Args:
            packet_bytes: of every frame of the file, in order of presentation, [n].
            key: whether it is a keyframe, bool [n].
        """
        return self.weights.probability(packet_sizes(packet_bytes, key)).astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes the feature to an ``.npz`` file."""
        np.savez(path, **self.weights.state())  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> PacketFeature:
        """Reads what `save` wrote.

        Raises:
            UsageError: the file is none.
        """
        try:
            with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
                return cls(Logistic.of_state({name: file[name] for name in file.files}))
        except OSError as error:
            raise UsageError(f"the packet feature {path} cannot be read: {error.strerror}") from error
        except (EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UsageError(f"{path} is no packet feature: {error}") from error


def packet_sizes(packet_bytes: Array, key: Array) -> Array:
    """Logarithms of packet sizes, smoothed over the frames before, f64 [n, 4].

    The sizes of keyframes say little about what moves and are kept apart: the last column is that of the
    latest keyframe.

    Args:
        packet_bytes: of every frame of a file, in order of presentation, [n].
        key: whether it is a keyframe, bool [n].
    """
    sizes = np.log1p(np.asarray(packet_bytes, np.float64))
    rows = np.arange(len(sizes))
    latest_key = np.maximum.accumulate(np.where(key, rows, 0))
    plain = ~np.asarray(key, bool)
    if not plain.any():  # every frame is a keyframe: their sizes are all there is
        plain = np.ones(len(sizes), bool)
    latest_plain = np.maximum.accumulate(np.where(plain, rows, -1))
    latest_plain[latest_plain < 0] = np.flatnonzero(plain)[0]
    between = sizes[latest_plain]
    return np.column_stack([*(_smoothed(between, half) for half in _SMOOTHED), sizes[latest_key]])


def fit_packets(sizes: Array, labels: Array) -> PacketFeature:
    """Learns the feature.

    Args:
        sizes: rows of `packet_sizes`.
        labels: bool [n]; both values occur.

    Raises:
        ValueError: one class has no frame.
    """
    return PacketFeature(fit_logistic(sizes, labels, ridge=_RIDGE))


def _smoothed(values: Array, half_life: float) -> Array:
    """Mean of the values so far, each counting half as much after ``half_life`` more of them."""
    keep = 0.5 ** (1 / half_life)
    found = np.empty_like(values)
    mean = float(values[0])
    for place, value in enumerate(values.tolist()):
        mean = keep * mean + (1 - keep) * value
        found[place] = mean
    return found
