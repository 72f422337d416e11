"""`cpuserve cutpoints`: lists the tensors where a model can be cut, with the work before and after each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import show_table
from cpuserve.cli.options import json_option, setting_options, settings_from

if TYPE_CHECKING:
    from cpuserve.authoring.cutpoints import CutPoint

__all__ = ["command"]


@click.command("cutpoints")
@click.argument("model", metavar="MODEL|FILE")
@json_option("Print a JSON array with an object for each tensor.")
@setting_options("model_repository")
def command(model: str, as_json: bool, config: Path | None, **flags: Any) -> None:
    """List where MODEL (or MODEL/VERSION) of the repository, or FILE, can be cut at a single tensor.

    All of the model's computation passes through each of these tensors. For a frozen TensorFlow graph the
    names and shapes are those of the graph, for other files those that OpenVINO gives.

    \b
    Example:
      cpuserve cutpoints digits
      cpuserve cutpoints deeplab.pb --json
    """
    from cpuserve.authoring.cut import CutSource  # noqa: PLC0415
    from cpuserve.authoring.cutpoints import cutpoints  # noqa: PLC0415  # OpenVINO only when it is needed
    from cpuserve.models.repository import Repository  # noqa: PLC0415

    whole = CutSource.find(model, Repository.of(settings_from(config, flags)))
    found = cutpoints(whole.model, whole.frozen_graph)
    if as_json:
        click.echo(orjson.dumps([dataclasses.asdict(point) for point in found]))
    else:
        _show(whole.name, found)


def _show(name: str, found: list[CutPoint]) -> None:
    from rich.table import Table  # noqa: PLC0415  # not for --help and --json

    table = Table("tensor", "type", "shape", "before %", "after %", title=name)
    table.columns[3].justify = table.columns[4].justify = "right"
    for point in found:
        shape = str(list(point.shape)).replace(" ", "")
        shares = (f"{100 * point.before:.1f}", f"{100 * point.after:.1f}")
        table.add_row(point.name, point.type, shape, *shares)
    show_table(table)
