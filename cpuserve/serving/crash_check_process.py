"""The child process of `crash_check`: loads a version of a model and exits with 0 unless that crashes it.

Run as ``python -m cpuserve.serving.crash_check_process``; stdin has a pickled version, settings and threads.
"""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import suppress
from dataclasses import replace

from cpuserve.serving.loader import assemble
from cpuserve.serving.openvino_core import openvino_core

__all__ = ["main"]


def main() -> None:
    """Load it as a worker does, but with one batch size unless there is a cache."""
    file, settings, threads = pickle.load(sys.stdin.buffer)  # noqa: S301 - the parent is the server
    if not settings.cache_dir and settings.max_batch is None:
        settings = replace(settings, max_batch=1)
    with suppress(BaseException):  # of a tail too: the worker meets it and says it where it is read
        assemble(openvino_core(), file, settings, threads)
    # the answer is that it came this far: nothing that ends with the process may change it
    os._exit(0)


if __name__ == "__main__":
    main()
