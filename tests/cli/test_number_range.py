"""Options that are numbers refuse `nan`, which no range refuses, and infinity."""

from __future__ import annotations

import click
import pytest

from cpuserve.cli import cli, main
from cpuserve.cli.number_range import NumberRange

WORDS = [
    ["video", "eval", "labels.csv", "--truth", "truth.csv", "--fn", "nan"],
    ["video", "eval", "labels.csv", "--truth", "truth.csv", "--confidence", "NaN"],
    ["video", "train", "day.mp4", "--reference", "m", "--query", "car", "-o", "cars", "--fp", "nan"],
    ["video", "run", "day.mp4", "--cascade", "cars", "-o", "day.csv", "--audit", "nan"],
    ["video", "run", "day.mp4", "--cascade", "cars", "-o", "day.csv", "--replica-timeout", "inf"],
    ["health", "--timeout", "nan"],
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join([*words[:2], *words[-2:]]))
def test_what_is_no_finite_number_is_refused(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"Invalid value for '{words[-2]}': {words[-1]} is no finite number" in said


def test_every_number_with_a_fraction_of_every_command_is_such_a_number():
    def numbers(command, name=""):
        for one in command.params:
            if isinstance(one.type, click.types.FloatParamType):
                yield f"{name} {one.name}", one.type
        if isinstance(command, click.Group):
            context = click.Context(command)
            for below in command.list_commands(context):
                yield from numbers(command.get_command(context, below), f"{name} {below}")

    found = dict(numbers(cli))
    assert len(found) > 20
    assert [name for name, kind in found.items() if not isinstance(kind, NumberRange)] == []


@pytest.mark.parametrize(
    "words",
    [
        ["video", "run", "day.mp4", "--cascade", "cars", "-o", "day.csv"],
        ["video", "train", "day.mp4", "--reference", "m", "--query", "car", "-o", "cars"],
        ["video", "plan", "--paper"],
    ],
    ids=lambda words: words[1],
)
@pytest.mark.parametrize("seed", ["-1", "9" * 20])
def test_a_seed_that_a_record_does_not_hold_is_refused(words, seed, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, "--seed", seed])
    assert end.value.code == 2
    assert f"{seed} is not in the range" in " ".join(capsys.readouterr().err.split())
