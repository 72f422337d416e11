"""Words of benchmark_app and other tools that cpuserve says differently, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import click

from cpuserve.errors import UsageError

__all__ = ["SuggestingChoice", "check_words", "instead_of"]

_INSTEAD = {
    "-m": "name the model without a flag",
    "-d": "CPU is the only device: leave it out",
    "-i": "--images DIR",
    "-b": "--max-batch, or --batch for tensors",
    "-t": "--window-seconds",
    "-c": "--config FILE (TOML)",
    "-hint": "--mode latency or --mode throughput of cpuserve serve; cpuserve tune measures which is faster",
    "-api": "requests always run asynchronously: leave it out",
    "-nireq": "--concurrency-range: as many requests at once as there are clients",
    "-niter": "--window-seconds",
    "-nstreams": "--streams",
    "-nthreads": "--inference-threads",
    "-infer_precision": "--precision",
    "-shape": "--shape",
    "-data_shape": "--shape",
    "-layout": "--layout of cpuserve convert",
    "-pc": "cpuserve profile shows the time of each layer",
    "-pcsort": "cpuserve profile shows the time of each layer",
    "-pin": "workers are pinned to their seats: leave it out",
    "-load_config": "--config FILE (TOML)",
    "-report_type": "--json, or --out FILE",
    "-report_folder": "--out",
    "-imean": "--mean_values of cpuserve convert",
    "-iscale": "--scale_values of cpuserve convert",
}
_OWN_ARGUMENTS = ("run",)  # their words are another program's


def instead_of(error: click.NoSuchOption) -> str:
    """What to write for an option of another tool; empty where none is known."""
    hint, context = _INSTEAD.get(error.option_name.partition("=")[0], ""), error.ctx
    if error.option_name != "-m" or context is None:
        return hint
    if isinstance(context.command, click.Group):
        return f"{hint}: {context.command_path} COMMAND MODEL"
    return f"{hint}: {context.command_path} {' '.join(context.command.collect_usage_pieces(context)[1:])}"


def check_words(words: Sequence[str]) -> None:
    """Refuse options of several letters behind one dash, which click would read letter by letter.

    Raises:
        UsageError: there is one of another tool; the message says what to write instead.
    """
    if words and words[0] in _OWN_ARGUMENTS:
        return
    for word in words:
        name = word.partition("=")[0]
        if len(name) > 2 and name in _INSTEAD:
            raise UsageError(f"no option {name}. Instead: {_INSTEAD[name]}")


class SuggestingChoice(click.Choice[str]):
    """A choice of words that answers a wrong one with the nearest right one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Click's message, and the word that was probably meant."""
        said = super().get_invalid_choice_message(value, ctx)
        words = [str(choice) for choice in self.choices]
        alike = difflib.get_close_matches(str(value).lower(), words, n=1, cutoff=0.5)
        return f"{said} Did you mean {alike[0]}?" if alike else said
