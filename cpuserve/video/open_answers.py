"""Chooses where the frames of videos are answered: in this process, or in several seats."""

from __future__ import annotations

from pathlib import Path

from cpuserve.machine.numa import bind_to_seat
from cpuserve.settings import Settings
from cpuserve.video.decoder_server import shared_server
from cpuserve.video.frame_model import open_frame_model
from cpuserve.video.infer import InferOptions
from cpuserve.video.local_answers import LocalAnswers
from cpuserve.video.seat_answers import AnswerTask, SeatAnswers
from cpuserve.video.seats import plan_video_seats

__all__ = ["open_answers"]


def open_answers(
    model: str | Path, settings: Settings, options: InferOptions, *, pictures: bool = False
) -> LocalAnswers | SeatAnswers:
    """Open a model in the seats of this machine, or in this process where one seat is all there is.

    Args:
        model: ``NAME`` or ``NAME/VERSION`` of the repository, or a path.
        settings: the settings in force.
        options: which frames, and how.
        pictures: whether the whole pictures are wanted too, which are too large to pass on: then this process
            answers alone, on all CPUs of the seats.

    Raises:
        CpuserveError: as of `cpuserve.video.frame_model.open_frame_model`.
        PlacementError: the seats do not fit what this process may use.
    """
    seats = plan_video_seats(settings).seats
    if len(seats) > 1 and not pictures:
        return SeatAnswers(seats, AnswerTask(model, settings, options))
    if len(seats) == 1:
        bind_to_seat(seats[0])
    shared_server().start()  # it is ready when the model is
    threads = sum(seat.threads for seat in seats)
    opened = open_frame_model(model, settings, threads=threads, scaler=options.scaler)
    return LocalAnswers(opened, options, pictures=pictures, processes=threads, max_pixels=settings.max_pixels)
