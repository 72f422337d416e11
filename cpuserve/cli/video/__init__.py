"""`cpuserve video`: the group of its subcommands."""

from __future__ import annotations

import click

from cpuserve.cli.group import LazyGroup

__all__ = ["COMMANDS", "command"]

COMMANDS: dict[str, str] = {
    "infer": "run a model on every frame of videos and write the answers",
    "streams": "find how many streams this machine carries",
    "train": "learn a cascade that answers for a model at less cost",
    "run": "label the frames of videos with a cascade, and audit it",
    "eval": "compare the labels of a run with true ones",
    "plan": "predict how long frames take with so many replicas",
    "mask": "let comments pass behind the people of a video",
}
"""Each command has its module here: infer, train, run, eval, streams, plan, mask."""


@click.command("video", cls=LazyGroup, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Run models on video files and streams.

    \b
    Example:
      cpuserve video infer street.mp4 --model yolox_nano
    """
