"""Help in sections."""

from __future__ import annotations

import click
from click.testing import CliRunner

from cpuserve.cli.sections import SectionedCommand, SectionedOption


@click.command(cls=SectionedCommand)
@click.option("--plain", help="One.")
@click.option("--near", cls=SectionedOption, section="Places", help="Two.")
@click.option("--secret", cls=SectionedOption, section="Hidden things", hidden=True)
@click.option("--soon", cls=SectionedOption, section="Times", help="Three.")
@click.option("--far", cls=SectionedOption, section="Places", help="Four.")
def command(**_given: object) -> None:
    """Do nothing."""


def test_options_are_listed_by_section_and_hidden_ones_are_not():
    text = CliRunner().invoke(command, ["--help"]).stdout
    words = [line.split()[0] for line in text.partition("Do nothing.")[2].splitlines() if line]
    assert words == ["Options:", "--plain", "--help", "Places:", "--near", "--far", "Times:", "--soon"]
