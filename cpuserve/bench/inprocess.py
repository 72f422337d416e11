"""Decode, resize and infer without HTTP, in processes that sit where the server's workers do; serves nothing.

`Seats` starts them; each runs this module, loads the model through the same loader as a worker does, and then
loops over the pictures whenever it is told for how many seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cpuserve.errors import CpuserveError
from cpuserve.machine import numa
from cpuserve.machine.heap import give_back_large_buffers
from cpuserve.machine.placement import Seat
from cpuserve.settings import Settings, load
from cpuserve.web.server import Server

__all__ = ["Loop", "Seats", "main"]

_END_S = 30.0


@dataclass(frozen=True)
class Loop:
    """What the seats did in one window.

    Attributes:
        images: that were decoded and inferred.
        seconds: the longest of the seats.
        cpu_s: CPU time of all seats.
    """

    images: int
    seconds: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Images a second, over all seats."""
        return self.images / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an image."""
        return 1000 * self.cpu_s / self.images


class Seats:
    """One process for each seat of the server that these settings make, loaded and waiting.

    Args:
        model: its name in the repository.
        flags: settings by name, as for `cpuserve.bench.local.serving`.
        config: a settings file.
        files: the pictures, looped over.

    Raises:
        CpuserveError: on entering, a process does not load; its own words are on stderr.
    """

    def __init__(
        self, model: str, flags: Mapping[str, Any], config: Path | None, files: Sequence[Path]
    ) -> None:
        given = {name: str(value) for name, value in flags.items() if value is not None}
        given["model_name"] = model
        self.seats = Server(load(given, file=config)).plan.seats
        self._processes: list[subprocess.Popen[str]] = []
        self._specs = [
            {
                "flags": given,
                "config": None if config is None else str(config),
                "seat": seat.index,
                "files": [str(file) for file in files],
            }
            for seat in self.seats
        ]

    def __enter__(self) -> Self:
        try:
            for spec in self._specs:
                command = [sys.executable, "-m", "cpuserve.bench.inprocess", json.dumps(spec)]
                self._processes.append(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
            for process in self._processes:
                _line(process)
        except CpuserveError:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        for process in self._processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def loop(self, seconds: float) -> Loop:
        """Let all seats work at the same time."""
        for process in self._processes:
            _pipe(process.stdin).write(f"{seconds}\n")
            _pipe(process.stdin).flush()
        found = [json.loads(_line(process)) for process in self._processes]
        return Loop(
            images=sum(one["images"] for one in found),
            seconds=max(one["seconds"] for one in found),
            cpu_s=sum(one["cpu_s"] for one in found),
        )


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise CpuserveError("a process without its pipes")
    return pipe


def _line(process: subprocess.Popen[str]) -> str:
    line = _pipe(process.stdout).readline()
    if not line:
        raise CpuserveError(f"the in-process loop ended with {process.wait()}; stderr says why")
    return line


def main() -> None:
    """Sit down, load, say so, then one window a line of stdin."""
    spec = json.loads(sys.argv[1])
    settings = load(spec["flags"], file=None if spec["config"] is None else Path(spec["config"]))
    seat = Server(settings).plan.seats[spec["seat"]]
    # as a worker does, before anything that starts threads or allocates is imported
    give_back_large_buffers()
    os.environ.update(numa.environment(seat))
    numa.sit(seat)
    pictures = [Path(file).read_bytes() for file in spec["files"]]
    try:
        pipeline = _loaded(settings, seat)
        pipeline.infer_pictures([pictures[0]], _request())
    except CpuserveError as error:
        sys.exit(f"cpuserve: error: {error}")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        json.dump(_window(pipeline, pictures, seat.threads, float(line)), sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


def _loaded(settings: Settings, seat: Seat) -> Any:
    from cpuserve.models.repository import Repository  # noqa: PLC0415  # OpenVINO, once it sits
    from cpuserve.serving.loader import load_pipeline, new_core  # noqa: PLC0415

    file = Repository.of(settings).find(settings.model_name)
    return load_pipeline(new_core(), file, settings, seat.threads)


def _request() -> Any:
    from cpuserve.serving.request import Request  # noqa: PLC0415

    return Request()


def _window(pipeline: Any, pictures: Sequence[bytes], threads: int, seconds: float) -> dict[str, float]:
    counts = [0] * threads
    cpu, began = time.process_time(), time.perf_counter()
    end = began + seconds

    def run(thread: int) -> None:
        turn = thread
        while time.perf_counter() < end:
            pipeline.infer_pictures([pictures[turn % len(pictures)]], _request())
            turn += threads
            counts[thread] += 1

    others = [threading.Thread(target=run, args=(thread,)) for thread in range(1, threads)]
    for other in others:
        other.start()
    run(0)
    for other in others:
        other.join()
    return {
        "images": sum(counts),
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
    }


if __name__ == "__main__":
    main()
