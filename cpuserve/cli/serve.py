"""`cpuserve serve`: serves the models of a repository over HTTP until it is stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from cpuserve.cli.options import print_notes, setting_options, settings_from
from cpuserve.cli.other_names import other_name_options, with_dashes, without_other_names
from cpuserve.cli.sections import SectionedCommand
from cpuserve.settings import SETTINGS, Settings

__all__ = ["command"]


@click.command("serve", cls=SectionedCommand, context_settings={"token_normalize_func": with_dashes})
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@setting_options(*SETTINGS)
@other_name_options
def command(models: tuple[str, ...], config: Path | None, **flags: Any) -> None:
    """Serve the models of the repository over HTTP: all of them, or each MODEL that is named.

    MODEL is a name in the repository (or NAME/VERSION), or the path of a model file or a directory.

    Each worker process has a seat: CPUs of one NUMA node that no other worker uses. SIGTERM or Ctrl-C lets
    requests finish and then stops the server, with exit code 0 or 130; a second Ctrl-C waits for nothing.
    Presets written by cpuserve tune are applied where nothing else gives a setting; the log says which.
    Options may have underscores, as those of OpenVINO Model Server.

    \b
    Example:
      cpuserve serve --workers 2 --port 8000
      cpuserve serve resnet/3 yolox_nano.onnx
      cpuserve serve --ninstances 4 --ncores-per-instance 8 --node-id 0,1
      cpuserve serve --model_name resnet --model_path /mnt/models --rest_port 8080
      cpuserve serve --preset off
      curl --data-binary @photo.jpg http://127.0.0.1:8000/predictions/digits
    """
    from cpuserve.machine.launch import relaunch  # noqa: PLC0415
    from cpuserve.models.example_model import with_example_model  # noqa: PLC0415
    from cpuserve.models.find_model import serving_only  # noqa: PLC0415
    from cpuserve.models.late_models import wait_for_models  # noqa: PLC0415
    from cpuserve.models.ovms_config import check_model_settings  # noqa: PLC0415
    from cpuserve.server.gunicorn_server import Server  # noqa: PLC0415  # gunicorn only when it is needed
    from cpuserve.tune.preset_choice import apply_presets  # noqa: PLC0415

    words, notes = without_other_names(flags)
    settings, more = check_model_settings(settings_from(config, words))
    place = Path(settings.model_path or settings.model_repository)
    wait_for_models(place, os.environ, lambda line: click.echo(f"cpuserve: {line}", err=True))
    settings = serving_only(settings, models)
    if example := with_example_model(settings):
        more.append(_what_to_try(settings))
        settings = example
    applied = apply_presets(settings)
    relaunch(applied.settings.allocator, applied.environ)
    print_notes([*notes, *more])
    Server(applied.settings, applied.document, applied.said).run()


def _what_to_try(settings: Settings) -> str:
    """What is served where there is no model, and a request that it answers."""
    from cpuserve.machine.bind_address import bind_address  # noqa: PLC0415
    from cpuserve.models.example_model import EXAMPLE, EXAMPLE_PICTURE  # noqa: PLC0415

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{bind_address(host, settings.port)}"
    return (
        f"{settings.model_repository} holds no model (cpuserve pull fetches one), so the one that comes "
        f"along is served, which reads a handwritten digit. Its page is {url}/, a request "
        f"curl --data-binary @{EXAMPLE_PICTURE} {url}/predictions/{EXAMPLE}"
    )
