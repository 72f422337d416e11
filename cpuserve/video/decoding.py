"""Decodes video files in processes of their own, and gives what a stage makes of the frames in order."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path

from cpuserve.errors import UsageError, VideoError
from cpuserve.machine.budget import Budget
from cpuserve.machine.placement import Seat, plan_seats
from cpuserve.machine.topology import Topology
from cpuserve.settings import SETTINGS
from cpuserve.video.decoder_messages import Begin, Failure, Prepare, Probe
from cpuserve.video.decoder_server import DecoderServer, shared_server
from cpuserve.video.frame import Frame
from cpuserve.video.frame_stage import DecodedFrame, FrameStage, StageResult
from cpuserve.video.held_interrupt import heard
from cpuserve.video.parallel_run import ParallelRun
from cpuserve.video.segment_decoder import FrameChoice, SegmentDecoder, SegmentEnd, Which
from cpuserve.video.video_file import VideoFile, probe

__all__ = [
    "MEMORY_BYTES",
    "DecodedFrame",
    "FrameStage",
    "StageResult",
    "Which",
    "decode",
    "frames",
    "kept_decoders",
    "limit_of",
    "pickled_stage",
    "probe_apart",
]

MEMORY_BYTES = 256 << 20
"""Of the pictures of one file that wait to be asked for."""

_END = 1 << 62


def decode(
    path: str | Path | VideoFile,
    stage: FrameStage,
    *,
    processes: int | None = None,
    which: Which = "all",
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
    max_pixels: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[DecodedFrame]:
    """Decode a file in processes of their own and run a stage on its frames there.

    Args:
        path: the file.
        stage: runs in the processes that decode; each gets a pickled copy.
        processes: how many; None is one for each core that this process may use, each in a seat.
        which: which frames are decoded: ``all``, those that others need (``nonref`` skips the others), or
            keyframes only (``nonkey`` skips all others), as FFmpeg's skip_frame. Numbers stay those of all.
        every: only frames with a number that this divides.
        start: number of the first frame.
        stop: number of the frame behind the last one; None is the end of the file.
        max_pixels: larger pictures are refused; None is the setting's default.
        memory_bytes: most bytes of pictures that wait to be asked for.

    Yields:
        What the stage made of each frame, in the order of presentation.

    Raises:
        VideoError: the file cannot be read, or not to its end, or a decoder crashed. All frames before that
            place were given.
        UsageError: a wrong argument, or a stage that cannot be pickled.
    """
    choice = _choice(every, start, stop)
    video = path if isinstance(path, VideoFile) else probe_apart(path, max_pixels=max_pixels)
    begin = Begin(
        video=video,
        which=which,
        choice=choice,
        stage=pickled_stage(stage),
        import_path=list(sys.path),
        max_pixels=limit_of(max_pixels),
        most_bytes=memory_bytes,
        seat=None,
    )
    run = ParallelRun(shared_server(), begin, _seats(processes))
    try:
        yield from run.frames()
    finally:
        run.close()


def frames(
    path: str | Path | VideoFile,
    *,
    which: Which = "all",
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
    max_pixels: int | None = None,
) -> Iterator[Frame]:
    """Decode a file in this thread, for tests, training and baselines.

    A decoder that crashes ends this process. Each frame is valid until the next one is asked for. The
    arguments are those of `decode`.

    Raises:
        VideoError: the file cannot be read, or not to its end.
    """
    choice = _choice(every, start, stop)
    video = path if isinstance(path, VideoFile) else probe(path, max_pixels=max_pixels)
    decoder = SegmentDecoder(video, which, limit_of(max_pixels))
    last = None
    try:
        first, *_, final = [video.segments[0], *video.segments]
        for frame in decoder.decode(first, final, SegmentEnd(), 0, choice):
            yield frame
            last = frame.number
    finally:
        decoder.close()
    if video.packets.damage is not None and choice.stop >= video.frames:
        number = video.frames - 1 if video.ordered else last
        raise VideoError(f"{video.path}: {video.packets.damage}; frame {number} is the last one")


@contextmanager
def kept_decoders(stage: FrameStage | None = None, processes: int | None = None) -> Iterator[None]:
    """While it lasts, processes that decode go on from one file to the next.

    Args:
        stage: given, as many processes as `decode` will use are started at once, in the background, and load
            what the stage needs for any file.
        processes: as for `decode`.
    """
    server = shared_server()
    with server.keeping():
        thread = None
        if stage is not None:
            thread = threading.Thread(target=_prepare, args=(server, stage, processes), name="decoders")
            thread.start()
        try:
            yield
        finally:
            if thread is not None:
                thread.join()


def _prepare(server: DecoderServer, stage: FrameStage, processes: int | None) -> None:
    with suppress(VideoError):  # decoding tells it
        for seat in _seats(processes):
            child = server.fork(seat)
            child.send(Prepare(pickled_stage(stage), list(sys.path), seat))
            child.give_back()


def probe_apart(path: str | Path, *, max_pixels: int | None = None) -> VideoFile:
    """Read the packets of a file in a process of its own, which a damaged file may crash.

    Raises:
        VideoError: it cannot be opened, has no video, or crashed the process.
    """
    child = shared_server().decoder(None)
    try:
        child.send(Probe(Path(path), limit_of(max_pixels)))
        with heard():
            wait([child.fileno()])
        answer = child.hear()
    except EOFError as error:
        child.close()
        raise VideoError(f"{path}: the process that opens it {child.ending()}") from error
    except BaseException:
        child.close()
        raise
    child.give_back()
    if isinstance(answer, Failure):
        raise answer.error
    video: VideoFile = answer
    return video


def _choice(every: int, start: int, stop: int | None) -> FrameChoice:
    if every < 1 or start < 0:
        raise UsageError(f"every is {every} and start {start}: give at least 1 and 0")
    return FrameChoice(every, start, _END if stop is None else stop)


def limit_of(max_pixels: int | None) -> int:
    """Most pixels of a picture: the setting's default where None is given."""
    return int(SETTINGS["max_pixels"].default if max_pixels is None else max_pixels)


def pickled_stage(stage: FrameStage) -> bytes:
    """A stage as it is sent to processes that decode.

    Raises:
        UsageError: it cannot be sent, or could not be loaded there.
    """
    if type(stage).__module__ == "__main__":
        raise UsageError(
            f"the stage {type(stage).__name__} is defined in the program itself, where the processes that "
            "decode cannot import it from: move it into a module"
        )
    try:
        return pickle.dumps(stage, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"the stage {type(stage).__name__} cannot be sent to other processes: {error}"
        ) from error


def _seats(processes: int | None) -> list[Seat | None]:
    """Where each process runs: those that take the whole machine are placed, others the kernel places."""
    if processes is not None:
        if processes < 1:
            raise UsageError(f"processes is {processes}: give at least 1")
        return [None] * processes
    budget, topology = Budget.read(), Topology.read()
    count = min(budget.effective, len(topology.cores(budget.cpus)))
    if budget.quota_binds:  # other programs may run on the same CPUs
        return [None] * count
    return [*plan_seats(topology, budget, workers=count).seats]
