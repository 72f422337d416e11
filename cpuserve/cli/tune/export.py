"""`cpuserve tune export`: writes a preset in another program's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import setting_options, settings_from
from cpuserve.errors import UsageError
from cpuserve.tune.preset_export import FORMATS, export_preset

__all__ = ["command"]


@click.command("export")
@click.argument("model")
@click.option("--to", type=SuggestingChoice(list(FORMATS)), required=True, help="Format to write.")
@click.option(
    "--out",
    type=LocalPath(dir_okay=False, path_type=Path),
    help="Write to this file instead of the terminal.",
)
@click.option(
    "--machine",
    metavar="FINGERPRINT",
    help="Directory of tuning_dir to take the preset from [default: the one that fits best].",
)
@click.option("--quiet", is_flag=True, help="Print no warning if the preset is of another machine or model.")
@setting_options("model_repository", "tuning_dir")
def command(
    model: str,
    *,
    to: str,
    out: Path | None,
    machine: str | None,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Write the preset of MODEL in the format of another program.

    env is a line NAME=VALUE for each setting, as docker run --env-file takes it; ovms is a config.json of
    OpenVINO Model Server; triton is a part of a config.pbtxt; benchmark_app is a file for its -load_config.
    Programs without seats get the settings for one process on the whole machine.

    \b
    Exit codes: 0 done, 1 there is no such model, 2 there is no preset, or wrong options.

    \b
    Example:
      cpuserve tune export mobilenet_v2_1.0_224_quant --to env > tuned.env
      cpuserve tune export mobilenet_v2_1.0_224_quant --to benchmark_app --out tuned.json
    """
    from cpuserve.models.repository import Repository  # noqa: PLC0415  # not for --help
    from cpuserve.tune.preset_key import PresetKey  # noqa: PLC0415
    from cpuserve.tune.preset_store import PresetStore, read_preset  # noqa: PLC0415

    settings = settings_from(config, flags)
    store, repository = PresetStore(settings.tuning_dir), Repository(settings.model_repository)
    model = repository.own_name(model)
    if machine is not None:
        preset = read_preset(store.preset_file(machine, model))
    else:
        match = store.find(model, PresetKey.read(repository.find(model)))
        if match.preset is None:
            why = "; ".join(("", *match.refused))
            raise UsageError(f"no preset of {model} in {settings.tuning_dir}: run cpuserve tune {model}{why}")
        preset = match.preset
        if match.differs and not quiet:
            pairs = (f"{name} {there} there, {here} here" for name, (there, here) in match.differs.items())
            click.echo(f"note: {match.path} is {match.kind}: {'; '.join(pairs)}", err=True)
    text = export_preset(preset, to)
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}") from error
