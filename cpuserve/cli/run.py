"""`cpuserve run`: runs any program in a seat, or a copy of it in every seat."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.options import setting_options, settings_from
from cpuserve.errors import PlacementError, UsageError

if TYPE_CHECKING:
    from cpuserve.machine.placement import Seat

__all__ = ["command"]

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as env, nice and the shells answer


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option(
    "--seats", default="auto", metavar="auto|INT", help="Number of seats; auto: as few as possible."
)
@click.option(
    "--seat", "index", type=click.IntRange(0), help="Run the program in this seat only, in this process."
)
@setting_options("cores_per_worker", "node_id", "use_logical_core")
@click.option(
    "--allocator",
    type=SuggestingChoice(["none", "auto", "jemalloc", "tcmalloc"]),
    default="none",
    show_default=True,
    help="Preload this allocator; auto: the first that is found, if any.",
)
@click.option(
    "--openmp",
    type=SuggestingChoice(["auto", "none", "libiomp5"]),
    default="auto",
    show_default=True,
    help="Preload this OpenMP runtime; auto: libiomp5 if it is found.",
)
@click.option("--quiet", is_flag=True, help="Print nothing about the seat on stderr.")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def command(
    *,
    seats: str,
    index: int | None,
    allocator: Any,
    openmp: Any,
    quiet: bool,
    words: tuple[str, ...],
    config: Path | None,
    **flags: Any,
) -> None:
    """Run a program with the CPUs, the NUMA node's memory and the number of threads of a seat.

    Without --seat a copy of the program runs in every seat. The seat's number is printed before each line
    of a copy, signals go to all copies, and the exit code is that of the first copy that failed. The program
    finds the number in CPUSERVE_SEAT. Variables that are set already stay.

    \b
    Example:
      cpuserve run --seats 2 -- python infer.py
      cpuserve run --seats 2 --seat 1 --allocator auto -- python infer.py
    """
    from cpuserve.cli.copies import Copies, Copy  # noqa: PLC0415  # not for --help
    from cpuserve.machine import launch  # noqa: PLC0415
    from cpuserve.machine.budget import Budget  # noqa: PLC0415
    from cpuserve.machine.placement import plan_seats  # noqa: PLC0415
    from cpuserve.machine.topology import Topology  # noqa: PLC0415

    settings = settings_from(config, flags)
    try:
        made = plan_seats(
            Topology.read(),
            Budget.read(),
            workers=_number(seats),
            cores_per_worker=settings.cores_per_worker,
            use_logical_cores=settings.use_logical_core,
            node_ids=settings.node_id,
        )
    except PlacementError as error:
        raise PlacementError(str(error).replace("--workers", "--seats")) from error
    count = len(made.seats)
    if index is not None and index >= count:
        raise UsageError(f"--seat {index}, but seats are numbered 0 to {count - 1}: --seats makes more")
    found = launch.find_preload(allocator, openmp, launch.library_folders())
    copies = []
    for seat in made.seats:
        added = launch.program_environment(seat, found)
        facts = [f"{name}={value}" for name, value in added.items()]
        facts += [f"(not found: {', '.join(found.missing)})"] if found.missing else []
        prepare = partial(_bind, seat, None if quiet else f"seat {seat.index} of {count}", facts)
        copies.append(Copy(str(seat.index), {**os.environ, **added}, prepare))
    try:
        if index is None:
            sys.exit(Copies(words, copies).run())
        copies[index].prepare()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, the program should not
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(words[0], words, copies[index].env)  # noqa: S606  # that is what it is for
    except OSError as error:
        click.echo(f"cpuserve: error: {words[0]} cannot be started: {error.strerror}", err=True)
        sys.exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def _bind(seat: Seat, name: str | None, facts: list[str]) -> None:
    """Bind a process that is about to become the program to its seat; end it when that is refused.

    Args:
        seat: the seat.
        name: the seat's name in the line that is printed; None prints nothing.
        facts: what else that line says.
    """
    from cpuserve.machine.files import format_cpulist  # noqa: PLC0415
    from cpuserve.machine.numa import bind_to_seat  # noqa: PLC0415

    try:
        binding = bind_to_seat(seat, strict=True)
    except PlacementError as error:
        os.write(2, f"cpuserve: error: {error}\n".encode())
        os._exit(1)
    if name is not None:
        memory = (
            f"memory of node {seat.memory_node} first" if binding.policy == "preferred" else "first touch"
        )
        reason = f" [{binding.reason}]" if binding.reason else ""
        place = f"CPUs {format_cpulist(binding.cpus)}, {memory}{reason}"
        os.write(2, f"cpuserve run: {name}: {place}; {' '.join(facts)}\n".encode())


def _number(seats: str) -> int | None:
    if seats == "auto":
        return None
    if not seats.isdecimal() or int(seats) < 1:
        raise UsageError(f"--seats is auto or a whole number from 1, not {seats!r}")
    return int(seats)
