"""Options that are paths of this machine take no addresses: what is written there would be lost."""

from __future__ import annotations

import click
import pytest

from cpuserve.cli import cli, main
from cpuserve.cli.local_path import LocalPath

WORDS = [
    ["batch", "photos", "--model", "digits", "-o", "s3://bucket/out"],
    ["batch", "photos", "--model", "digits", "-o", "file:///tmp/out"],
    ["predict", "digits", "seven.png", "--output", "gs://bucket/seven.png"],
    ["bench", "serve", "digits", "--csv", "https://host/t.csv"],
    ["profile", "digits", "--out", "abfs://container/p"],
    ["pull", "digits", "--model-repository", "s3://models"],
    ["serve", "--model_name", "digits", "--model_path", "s3://bucket/digits"],
    ["tune", "report", "digits", "--out", "s3://bucket/r.html"],
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[0])
def test_an_address_is_refused_and_nothing_is_made(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    address = next(word for word in words if "://" in word)
    of_an_option, of_a_setting = f"{address} is an address", f"not the address {address}"
    assert of_an_option in said or of_a_setting in said
    assert "a path of this machine" in said
    assert list(tmp_path.iterdir()) == []


def test_every_path_of_every_command_is_such_a_path():
    def paths(command, name=""):
        for one in command.params:
            if isinstance(one.type, click.Path):
                yield f"{name} {one.name}", one.type
        if isinstance(command, click.Group):
            context = click.Context(command)
            for below in command.list_commands(context):
                yield from paths(command.get_command(context, below), f"{name} {below}")

    found = dict(paths(cli))
    assert len(found) > 30
    assert [name for name, kind in found.items() if not isinstance(kind, LocalPath)] == []
