"""Trains a specialised network in a process of its own, with one thread for numpy.

So small products are slower on several threads, and on one the same network comes out on machines with any
number of cores. Run as ``python -m cpuserve.video.cnn_process`` it is that process: stdin has the frames.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.machine.process_controls import die_with_parent
from cpuserve.serving.engine import Array
from cpuserve.video.cnn_learner import Trainer
from cpuserve.video.specialised_training import CnnSize, TrainedCnn, train_cnn

__all__ = ["main", "train_apart"]

_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def train_apart(
    pixels: Array,
    labels: Array,
    size: CnnSize,
    *,
    seed: int = 0,
    trainer: Trainer = "numpy",
    report: Callable[[int, int], None] | None = None,
) -> TrainedCnn:
    """As `train_cnn`, in a process of its own.

    Args:
        pixels: u8 [n, h, w, c], in order of time.
        labels: bool [n].
        size: how large.
        seed: of weights, order and dropout.
        trainer: who changes the weights.
        report: called with the epochs that are done and their most.

    Raises:
        UsageError: there are too few frames of a class.
        CpuserveError: the process ended without a network.
    """
    child = subprocess.Popen(
        die_with_parent(sys.executable, "-m", "cpuserve.video.cnn_process"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the command
        env={
            **os.environ,
            **_ONE_THREAD,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        },
    )
    assert child.stdin is not None and child.stdout is not None  # noqa: S101  # pipes were asked for
    found: Any = None
    with child:
        try:
            with suppress(BrokenPipeError):  # it has ended; what comes of that is told below
                try:
                    pickle.dump((np.asarray(pixels), labels, size, seed, trainer), child.stdin)
                finally:
                    child.stdin.close()
            while (message := _message(child.stdout)) is not None:
                if isinstance(message, tuple):
                    if report is not None:
                        report(*message)
                else:
                    found = message
        except BaseException:
            child.kill()
            raise
    if isinstance(found, str):
        raise UsageError(found)
    if not isinstance(found, TrainedCnn):
        raise CpuserveError(
            f"training the network {size.name} ended with {child.returncode}: is there enough memory for "
            f"{len(pixels)} frames?"
        )
    return found


def main() -> None:
    """Trains what stdin has; writes epochs and then the network to stdout."""
    pixels, labels, size, seed, trainer = pickle.load(sys.stdin.buffer)  # noqa: S301  # from the parent
    out = sys.stdout.buffer

    def say(message: Any) -> None:
        pickle.dump(message, out)
        out.flush()

    try:
        say(train_cnn(pixels, labels, size, seed=seed, trainer=trainer, report=lambda *done: say(done)))
    except UsageError as error:
        say(str(error))


def _message(stream: Any) -> Any:
    try:
        return pickle.load(stream)  # noqa: S301  # from the child
    except EOFError:
        return None


if __name__ == "__main__":
    main()
