"""`cpuserve serve`: starts the server and stays until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cpuserve.cli.options import setting_options, settings_from
from cpuserve.settings import TABLE

__all__ = ["command"]


@click.command("serve")
@setting_options(*(setting.name for setting in TABLE))
def command(config: Path | None, **flags: Any) -> None:
    """Serve every model of the repository over HTTP.

    One worker process a seat: a set of CPUs inside one NUMA node that no other worker uses. SIGTERM or Ctrl-C
    finishes what was begun and ends.

    \b
    Example:
      cpuserve serve --workers 2 --port 8000
      curl --data-binary @photo.jpg http://127.0.0.1:8000/predictions/digits
    """
    from cpuserve.web.server import Server  # noqa: PLC0415  # gunicorn only when it is needed

    Server(settings_from(config, flags)).run()
