"""`cpuserve plan`: how many machines a rate of pictures takes, and what a million pictures costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import json_option, print_notes
from cpuserve.errors import CpuserveError, UsageError

if TYPE_CHECKING:
    from cpuserve.tune.capacity import Capacity, Demand

__all__ = ["command"]


@click.command("plan")
@click.argument("preset", type=LocalPath(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option(
    "--images-per-s",
    type=NumberRange(0, min_open=True),
    help="What one machine can do, in place of a preset's figure.",
)
@click.option("--rate", type=NumberRange(0, min_open=True), help="Pictures a second at the peak.")
@click.option(
    "--load",
    type=NumberRange(0, 1, min_open=True),
    default=0.6,
    show_default=True,
    help="Share of what a machine can do that it is given at the peak; above 0.8 requests begin to wait.",
)
@click.option(
    "--spare",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Machines that may be missing at the peak.",
)
@click.option("--price-per-hour", type=NumberRange(0), help="Price of one machine.")
@click.option("--watts", type=NumberRange(0, min_open=True), help="Power of one machine at that load.")
@click.option(
    "--measure-watts",
    type=NumberRange(0, min_open=True),
    metavar="SECONDS",
    help="Measure the power of this machine's processors and memory (RAPL) for so long: under load.",
)
@click.option("--price-per-kwh", type=NumberRange(0), help="Price of electricity.")
@json_option("Print JSON.")
def command(
    *,
    preset: Path | None,
    images_per_s: float | None,
    rate: float | None,
    load: float,
    spare: int,
    price_per_hour: float | None,
    watts: float | None,
    measure_watts: float | None,
    price_per_kwh: float | None,
    as_json: bool,
) -> None:
    """Compute how many machines a rate of pictures takes, and what a million pictures costs.

    PRESET is a file that `cpuserve tune` wrote: one machine of its kind does what was measured.

    \b
    Example:
      cpuserve plan tuning/MACHINE/resnet50.json --rate 2000 --price-per-hour 0.40
      cpuserve plan --images-per-s 460 --watts 180 --price-per-kwh 0.25
    """
    from cpuserve.tune.capacity import Demand, capacity  # noqa: PLC0415  # not for --help

    if (preset is None) == (images_per_s is None):
        raise UsageError("give a PRESET, or --images-per-s in its place")
    if watts is not None and measure_watts is not None:
        raise UsageError("--watts and --measure-watts both tell the power: leave one out")
    notes: list[str] = []
    speed = images_per_s if preset is None else _measured(preset, notes)
    watts = _watts(measure_watts) if measure_watts else watts
    demand = Demand(rate, load, spare, price_per_hour, watts, price_per_kwh)
    found = capacity(speed or 0.0, demand)
    if as_json:
        click.echo(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2))
    else:
        _show(found, demand)
    print_notes(notes)


def _measured(preset: Path, notes: list[str]) -> float:
    from cpuserve.tune.preset_store import read_preset  # noqa: PLC0415

    found = read_preset(preset).measured
    if not found.stable:
        notes.append(f"the preset's figure was not stable (noise {found.noise:.0%}): run cpuserve tune again")
    return found.images_per_s


def _watts(seconds: float) -> float:
    from cpuserve.machine.power import EnergySample  # noqa: PLC0415

    before = EnergySample.take()
    time.sleep(seconds)
    after = EnergySample.take()
    if before is None or after is None:
        raise CpuserveError(
            "this machine shows no power: it has no RAPL counters (usual in a virtual machine), or only root "
            "may read them; read the power at the socket or from the BMC and give --watts"
        )
    return after.watts_since(before)


def _show(found: Capacity, demand: Demand) -> None:
    click.echo(f"one machine does {found.images_per_s:.4g} pictures a second")
    click.echo(f"it is given      {found.given_per_s:.4g} at the peak (load {demand.load:g})")
    if found.machines is not None and found.load_without_spare is not None:
        rest = f"load {found.load_without_spare:.2f} while they are missing"
        words = f"{found.machines} for {demand.rate:g} a second, {demand.spare} spare ({rest})"
        click.echo(f"machines         {words}")
    click.echo(f"a million takes  {found.machine_hours_per_million:.3g} machine hours")
    if found.cost_per_million is not None:
        click.echo(f"a million costs  {found.cost_per_million:.3g}, hours without requests not counted")
    if found.joules_per_image is not None:
        words = f"{found.joules_per_image:.3g} J a picture, {found.kwh_per_million:.3g} kWh a million"
        click.echo(f"energy           {words}")
    if found.energy_cost_per_million is not None:
        click.echo(f"electricity      {found.energy_cost_per_million:.3g} a million")
