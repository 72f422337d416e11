"""Writes the generated files: settings, commands, seven.png, openapi.json, descriptors of .proto files."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import cv2
import grpc_tools
import numpy as np
import yaml
from grpc_tools import protoc

from cpuserve.cli import COMMANDS, cli
from cpuserve.settings import SETTINGS, Group, Setting

HERE = Path(__file__).parent
PROTOS = HERE.parent / "cpuserve" / "grpc" / "protos"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
CHART_SCHEMA = HERE.parent / "deploy" / "helm" / "cpuserve" / "values.schema.json"
CHART_VALUES = {"port", "grpc_port", "shutdown_timeout_s", "cache_dir"}  # set by values of the chart's own
HEADER = ("| setting | option | environment | default | meaning |", "|---|---|---|---|---|")


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from `cpuserve/settings`.",
        "",
        "Where a setting is given more than once, the first of these counts: command line, environment,"
        " settings file (`--config FILE`, TOML, the names below), preset, the model's own metadata"
        " (`decode`, `precision`), default."
        " Settings marked * can also be given for one model, in a table `[models.NAME]` of the"
        " settings file.",
    ]
    for group in Group:
        lines += ["", f"## {group}", "", *HEADER]
        for setting in SETTINGS.values():
            if setting.group == group:
                lines.append(_row(setting))
    return "\n".join(lines) + "\n"


def _row(setting: Setting) -> str:
    words = f" One of: {', '.join(setting.choices)}." if setting.choices else ""
    if setting.ovms:
        words += f" OpenVINO Model Server's name: `{setting.ovms}`."
    name = f"`{setting.name}`" + (" *" if setting.per_model else "")
    where = f"`{setting.flag}` | `{setting.variable}`"
    return f"| {name} | {where} | `{setting.shown_default}` | {setting.help}{words} |"


def commands_page() -> str:
    """docs/commands.md."""
    parts = ["# Commands", "", "Written by `make docs` from the commands themselves.", ""]
    wide = {"resilient_parsing": True, "max_content_width": 100, "terminal_width": 100}
    root = cli.make_context("cpuserve", [], **wide)
    parts += ["## `cpuserve`", "", "```text", cli.get_help(root), "```", ""]
    for name in COMMANDS:
        parts += _helps(cli, root, [name], wide)
    return "\n".join(parts)


def _helps(group: click.Group, parent: click.Context, words: list[str], wide: dict[str, Any]) -> list[str]:
    """The help of a command and of the commands below it."""
    command = group.get_command(parent, words[-1])
    if command is None:
        raise SystemExit(f"{' '.join(words)} is no command")
    context = command.make_context(words[-1], [], parent=parent, **wide)
    parts = [f"## `cpuserve {' '.join(words)}`", "", "```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            parts += _helps(command, context, [*words, name], wide)
    return parts


def seven() -> bytes:
    """docs/seven.png, drawn here and under the licence of this repository: a 7 on a 140 px canvas."""
    canvas = np.full((140, 140), 255, np.uint8)
    stroke = np.array([[38, 40], [66, 37], [100, 39], [86, 66], [72, 92], [64, 116]], np.int32)
    cv2.polylines(canvas, [stroke], isClosed=False, color=20, thickness=9, lineType=cv2.LINE_AA)
    return cv2.imencode(".png", canvas)[1].tobytes()


def openapi() -> str:
    """cpuserve/protocols/page/openapi.json, from the YAML beside it: the server reads no YAML."""
    source = HERE.parent / "cpuserve" / "protocols" / "page" / "openapi.yaml"
    return json.dumps(yaml.safe_load(source.read_text()), separators=(",", ":")) + "\n"


def descriptors() -> bytes:
    """cpuserve/grpc/protos/descriptors.binpb, from the .proto files beside it: the server needs no protoc."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors.binpb"
        files = sorted(str(file) for file in PROTOS.glob("*.proto"))
        if protoc.main(
            [
                "protoc",
                f"-I{PROTOS}",
                f"-I{WELL_KNOWN}",
                "--include_imports",
                f"--descriptor_set_out={out}",
                *files,
            ]
        ):
            raise SystemExit("protoc refused the .proto files")
        return out.read_bytes()


def chart_schema() -> str:
    """The Helm chart's values.schema.json with today's names of settings, but for those that have a value."""
    schema = json.loads(CHART_SCHEMA.read_text())
    names = sorted(set(SETTINGS) - CHART_VALUES)
    schema["properties"]["settings"]["propertyNames"]["enum"] = names
    return json.dumps(schema, indent=1) + "\n"


PAGES = {"settings.md": settings_page, "commands.md": commands_page}


def main(folder: Path) -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (folder / name).write_text(page())
        sys.stdout.write(f"{folder.name}/{name}\n")
    (folder / "seven.png").write_bytes(seven())
    package = HERE.parent / "cpuserve" / "protocols" / "page" if folder == HERE else folder
    (package / "openapi.json").write_text(openapi())
    chart = CHART_SCHEMA.parent if folder == HERE else folder
    (chart / "values.schema.json").write_text(chart_schema())
    (PROTOS if folder == HERE else folder).joinpath("descriptors.binpb").write_bytes(descriptors())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
