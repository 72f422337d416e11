"""The type of options and arguments that are paths of this machine."""

from __future__ import annotations

import os
import re
from typing import Any

import click

__all__ = ["LocalPath"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class LocalPath(click.Path):
    """A path, but no address such as ``s3://bucket/out``.

    That would be taken for the folder ``s3:`` of the working directory, and what is written for lost.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an address."""
        if _ADDRESS.match(os.fsdecode(value)):
            self.fail(f"{os.fsdecode(value)} is an address: give a path of this machine", param, ctx)
        return super().convert(value, param, ctx)
