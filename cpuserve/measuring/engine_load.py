"""Runs the pipeline (decode, resize, infer) without HTTP, in processes seated as a server's workers are.

`SeatProcesses` starts one process a seat. Each runs this module, loads the models with a worker's loader and,
told for how many seconds, loops over the pictures in as many threads as a worker has.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cpuserve.errors import CpuserveError
from cpuserve.machine import numa
from cpuserve.machine.budget import Budget
from cpuserve.machine.placement import Seat, plan_for_settings
from cpuserve.machine.process_controls import die_with_parent, malloc_settings
from cpuserve.machine.topology import Topology
from cpuserve.settings import Settings, load

__all__ = ["LoopFigures", "SeatProcesses", "main"]

_END_S = 30.0


@dataclass(frozen=True)
class LoopFigures:
    """What all seats did in one window.

    Attributes:
        images: images decoded and inferred.
        seconds: duration in the slowest seat.
        cpu_s: CPU time of all seats.
        latencies_ms: latency of each image, ascending.
    """

    images: int
    seconds: float
    cpu_s: float
    latencies_ms: Sequence[float] = ()

    @property
    def per_s(self) -> float:
        """Images a second, over all seats."""
        return self.images / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an image."""
        return 1000 * self.cpu_s / self.images


class SeatProcesses:
    """Starts one process for each seat of a server with these settings.

    Args:
        models: a name in the repository, or several, which the pictures go to in turn.
        flags: settings by name, as for `cpuserve.measuring.local_server`.
        config: a settings file.
        files: the pictures, looped over.
        environ: the processes' environment; None is that of this one.
        log: what the processes say on stderr; None is where this one says it.

    Attributes:
        seats: by index.
        properties: OpenVINO's in force, by model and name, once entered.

    Raises:
        CpuserveError: on entering, a process does not load; its own words are on stderr.
        PlacementError: the seats do not fit what this process may use.
    """

    def __init__(
        self,
        models: str | Sequence[str],
        flags: Mapping[str, Any],
        config: Path | None,
        files: Sequence[Path],
        *,
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        given = {name: str(value) for name, value in flags.items() if value is not None}
        turns = [models] if isinstance(models, str) else list(models)
        settings = load(given, file=config, environ=os.environ if environ is None else environ)
        self.seats = plan_for_settings(Topology.read(), Budget.read(), settings).seats
        self.properties: Mapping[str, Mapping[str, str]] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._environ = None if environ is None else dict(environ)
        self._log = log
        self._specs = [
            {
                "flags": given,
                "models": turns,
                "config": None if config is None else str(config),
                "seat": seat.index,
                "files": [str(file) for file in files],
            }
            for seat in self.seats
        ]

    def __enter__(self) -> Self:
        try:
            for spec in self._specs:
                self._processes.append(self._start(json.dumps(spec)))
            for process in self._processes:
                self.properties = json.loads(self._line(process))
        except CpuserveError:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes, by seat."""
        return tuple(process.pid for process in self._processes)

    def _start(self, spec: str) -> subprocess.Popen[str]:
        words = die_with_parent(sys.executable, "-m", "cpuserve.measuring.engine_load", spec)
        with nullcontext() if self._log is None else self._log.open("ab") as stderr:
            return subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=self._environ,
                process_group=0,  # Ctrl-C is for the command
            )

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

    def loop(self, seconds: float) -> LoopFigures:
        """Run the loop in all seats at the same time."""
        for process in self._processes:
            _pipe(process.stdin).write(f"{seconds}\n")
            _pipe(process.stdin).flush()
        found = [json.loads(self._line(process)) for process in self._processes]
        return LoopFigures(
            images=sum(one["images"] for one in found),
            seconds=max(one["seconds"] for one in found),
            cpu_s=sum(one["cpu_s"] for one in found),
            latencies_ms=sorted(latency for one in found for latency in one["latencies_ms"]),
        )

    def _line(self, process: subprocess.Popen[str]) -> str:
        line = _pipe(process.stdout).readline()
        if not line:
            words = "stderr says why"
            if self._log is not None:
                words = " ".join(self._log.read_text(errors="replace").strip().splitlines()[-1:])
            raise CpuserveError(f"the in-process loop ended with {process.wait()}; {words}")
        return line


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise CpuserveError("a process without its pipes")
    return pipe


def main() -> None:
    """Take the seat, load the models, then run one window for each line of stdin."""
    spec = json.loads(sys.argv[1])
    settings = load(spec["flags"], file=None if spec["config"] is None else Path(spec["config"]))
    seat = plan_for_settings(Topology.read(), Budget.read(), settings).seats[spec["seat"]]
    # as a worker does, before anything that starts threads or allocates is imported
    malloc_settings()
    os.environ.update(numa.seat_environment(seat))
    numa.bind_to_seat(seat)
    pictures = [Path(file).read_bytes() for file in spec["files"]]
    try:
        loaded = {name: _loaded(name, settings, seat) for name in dict.fromkeys(spec["models"])}
        for pipeline in loaded.values():
            pipeline.infer_pictures([pictures[0]], _request())
    except CpuserveError as error:
        sys.exit(f"cpuserve: error: {error}")
    _say({name: pipeline.batcher.engine.read_back() for name, pipeline in loaded.items()})
    turns = [loaded[name] for name in spec["models"]]
    for line in sys.stdin:
        _say(_window(turns, pictures, settings.threads or seat.threads, float(line)))


def _say(document: Mapping[str, Any]) -> None:
    json.dump(document, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _loaded(name: str, settings: Settings, seat: Seat) -> Any:
    from cpuserve.models.repository import Repository  # noqa: PLC0415  # OpenVINO, once it sits
    from cpuserve.serving.loader import load_pipeline  # noqa: PLC0415
    from cpuserve.serving.openvino_core import openvino_core  # noqa: PLC0415

    file = Repository.of(settings).find(name)
    return load_pipeline(openvino_core(), file, settings, seat.threads)


def _request() -> Any:
    from cpuserve.serving.request import Request  # noqa: PLC0415

    return Request()


def _window(turns: Sequence[Any], pictures: Sequence[bytes], threads: int, seconds: float) -> dict[str, Any]:
    """Loop in ``threads`` threads over the models; when each had a picture, the next picture comes."""
    latencies: list[list[float]] = [[] for _ in range(threads)]
    cpu, began = time.process_time(), time.perf_counter()
    end = began + seconds
    counter = itertools.count()

    def run(thread: int) -> None:
        now = time.perf_counter()
        while now < end:
            turn = next(counter)
            picture = pictures[turn // len(turns) % len(pictures)]
            turns[turn % len(turns)].infer_pictures([picture], _request())
            before, now = now, time.perf_counter()
            latencies[thread].append(1000 * (now - before))

    others = [threading.Thread(target=run, args=(thread,)) for thread in range(1, threads)]
    for other in others:
        other.start()
    run(0)
    for other in others:
        other.join()
    return {
        "images": sum(map(len, latencies)),
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "latencies_ms": [latency for one in latencies for latency in one],
    }


if __name__ == "__main__":
    main()
