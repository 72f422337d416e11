"""`cpuserve pull`: downloads models of the catalogue, converts and publishes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from cpuserve.authoring.catalog import CatalogFile, entries, find
from cpuserve.authoring.download import Downloader, Progress
from cpuserve.cli.console import progress, show_table
from cpuserve.cli.options import json_option, print_notes, setting_options, settings_from
from cpuserve.errors import RepositoryError, UnknownCatalogEntry, UsageError
from cpuserve.models.aliases import write_aliases
from cpuserve.models.example_model import EXAMPLE, EXAMPLE_LICENCE, example_bytes, publish_example
from cpuserve.models.repository import Repository

__all__ = ["command"]

_VERSION = 1
_EXAMPLE_TEXT = "one handwritten digit, 0 to 9; it comes with cpuserve"


@click.command("pull")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option(
    "--mirror",
    envvar="CPUSERVE_MIRROR",
    default="",
    metavar="DIR|URL",
    help="Get the files from here, by file name, instead of from their publishers. [env CPUSERVE_MIRROR]",
)
@click.option("--list", "as_list", is_flag=True, help="List the models of the catalogue, as without NAME.")
@click.option("--as", "new_name", metavar="NEW", help="Publish the model under this name; for one NAME only.")
@click.option("--force", is_flag=True, help="Convert models again that are already in the repository.")
@json_option("Print a line with a JSON object for each model.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@setting_options("model_repository")
def command(
    *,
    names: tuple[str, ...],
    mirror: str,
    as_list: bool,
    new_name: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Download the models NAME... of the catalogue, check, convert and publish them; without NAME, list them.

    NAME may be an alias, which then names the model in every command and URL, unless --as gives another name;
    digits comes with cpuserve and is copied. The next pull resumes a download that was
    interrupted. A file with a wrong checksum is deleted. Models that are already in the repository are left
    unchanged.

    \b
    Example:
      cpuserve pull mobilenet_v2 deeplabv3_257
      cpuserve pull mobilenet_v2 --as classifier
      cpuserve pull mobilenet_v2 --mirror /media/models
    """
    if as_list or not names:
        _print_catalogue(as_json)
        return
    if new_name and len(names) > 1:
        raise UsageError(f"--as {new_name} names one model, and there are {len(names)}: pull them one by one")
    downloader = Downloader(mirror=mirror)
    choices = [_choice(name, downloader, shown=not (quiet or as_json)) for name in names]
    repository = Repository(settings_from(config, flags).model_repository)
    for choice in {choice.name: choice for choice in choices}.values():
        name = new_name or choice.name
        there = _VERSION in repository.versions(name)
        if force or not there:
            choice.publish(repository, name, there)
        if not new_name:
            _name_by_aliases(repository, name, choice.aliases)
        file = repository.find(name, _VERSION)
        status = "present" if there and not force else "published"
        if as_json:
            facts = {"name": name, "version": _VERSION, "status": status, "path": str(file.xml)}
            click.echo(orjson.dumps(facts | {"licence": choice.licence}))
        elif not quiet:
            said = "is already there" if status == "present" else "published"
            click.echo(f"{name}/{_VERSION} {said}: {file.xml} ({choice.licence})")


def _name_by_aliases(repository: Repository, name: str, aliases: tuple[str, ...]) -> None:
    """Let the model be named by its aliases; where they cannot be written, a note says so."""
    try:
        write_aliases(repository.root / name, aliases)
    except RepositoryError as error:
        print_notes([f"{name} has only this name: {error}"])


@dataclass(frozen=True)
class _Choice:
    """A model that can be pulled.

    Attributes:
        name: it is published under this name where no other is given.
        aliases: other names it then has.
        licence: its licence.
        publish: puts it into a repository under a name; the last argument allows to replace another.
    """

    name: str
    aliases: tuple[str, ...]
    licence: str
    publish: Callable[[Repository, str, bool], object]


def _choice(word: str, downloader: Downloader, *, shown: bool) -> _Choice:
    """The model of that name or alias.

    Raises:
        UsageError: there is none.
    """
    if word == EXAMPLE:
        return _Choice(
            EXAMPLE, (), EXAMPLE_LICENCE, lambda place, name, old: publish_example(place, name, replace=old)
        )
    try:
        entry = find(word)
    except UnknownCatalogEntry as error:
        raise UsageError(str(error)) from error

    def publish(repository: Repository, name: str, replace: bool) -> None:
        from cpuserve.authoring.pull import pull  # noqa: PLC0415  # OpenVINO only when it is needed

        with _bars(shown=shown) as bar:
            pull(dataclasses.replace(entry, name=name), repository, downloader, bar, replace=replace)

    return _Choice(entry.name, entry.aliases, entry.card.licence, publish)


@contextmanager
def _bars(*, shown: bool) -> Iterator[Callable[[CatalogFile], Progress]]:
    """Yields a function that makes a progress bar for a file; nothing is drawn outside a terminal."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with progress(*columns, shown=shown) as bars:

        def bar(source: CatalogFile) -> Progress:
            task = bars.add_task(source.file, total=source.bytes)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield bar


def _print_catalogue(as_json: bool) -> None:
    from rich.table import Table  # noqa: PLC0415

    if as_json:
        example = {"name": EXAMPLE, "aliases": [], "bytes": example_bytes(), "licence": EXAMPLE_LICENCE}
        click.echo(orjson.dumps(example | {"url": None, "description": _EXAMPLE_TEXT}))
        for entry in entries().values():
            facts = {
                "name": entry.name,
                "aliases": entry.aliases,
                "bytes": entry.source.bytes,
                "licence": entry.card.licence,
                "url": entry.source.url or None,
                "description": entry.card.description,
            }
            click.echo(orjson.dumps(facts))
        return
    table = Table("name", "aliases", "MB", "licence", "from", "description")
    table.columns[2].justify = "right"
    table.add_row(EXAMPLE, "", f"{example_bytes() / 1e6:.1f}", EXAMPLE_LICENCE, "cpuserve", _EXAMPLE_TEXT)
    for entry in entries().values():
        origin = "upstream" if entry.source.url else "mirror"
        size = f"{entry.source.bytes / 1e6:.1f}"
        card = entry.card
        table.add_row(entry.name, " ".join(entry.aliases), size, card.licence, origin, card.description)
    show_table(table)
