"""`cpuserve pull`: downloads models of the catalogue, converts and publishes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson

from cpuserve.authoring.catalog import CatalogFile, entries, find
from cpuserve.authoring.download import Downloader, Progress
from cpuserve.cli.console import progress, table_console
from cpuserve.cli.options import json_option, setting_options, settings_from
from cpuserve.errors import UnknownCatalogEntry, UsageError
from cpuserve.models.repository import Repository

__all__ = ["command"]

_VERSION = 1


@click.command("pull")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option(
    "--mirror",
    envvar="CPUSERVE_MIRROR",
    default="",
    metavar="DIR|URL",
    help="Get the files from here, by file name, instead of from their publishers. [env CPUSERVE_MIRROR]",
)
@click.option("--list", "as_list", is_flag=True, help="List the models of the catalogue.")
@click.option("--force", is_flag=True, help="Convert models again that are already in the repository.")
@json_option("Print a line with a JSON object for each model.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@setting_options("model_repository")
def command(
    *,
    names: tuple[str, ...],
    mirror: str,
    as_list: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Download the models NAME... of the catalogue, check, convert and publish them.

    The next pull resumes a download that was interrupted. A file with a wrong checksum is deleted. Models
    that are already in the repository are left unchanged.

    \b
    Example:
      cpuserve pull mobilenet_v2 deeplabv3_257
      cpuserve pull mobilenet_v2 --mirror /media/models
    """
    if as_list:
        _print_catalogue(as_json)
        return
    if not names:
        raise UsageError("name a model; cpuserve pull --list shows the catalogue")
    try:
        wanted = list(dict.fromkeys(find(name) for name in names))
    except UnknownCatalogEntry as error:
        raise UsageError(str(error)) from error
    repository = Repository(settings_from(config, flags).model_repository)
    downloader = Downloader(mirror=mirror)
    for entry in wanted:
        there = _VERSION in repository.versions(entry.name)
        if force or not there:
            with _bars(shown=not (quiet or as_json)) as bar:
                from cpuserve.authoring.pull import pull  # noqa: PLC0415  # OpenVINO only when it is needed

                pull(entry, repository, downloader, bar, replace=force)
        file = repository.find(entry.name, _VERSION)
        status = "present" if there and not force else "published"
        if as_json:
            facts = {"name": entry.name, "version": _VERSION, "status": status, "path": str(file.xml)}
            click.echo(orjson.dumps(facts | {"licence": entry.card.licence}))
        elif not quiet:
            said = "is already there" if status == "present" else "published"
            click.echo(f"{entry.name}/{_VERSION} {said}: {file.xml} ({entry.card.licence})")


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
    for column in table.columns:
        column.overflow = "fold"
    table.columns[2].justify = "right"
    for entry in entries().values():
        origin = "upstream" if entry.source.url else "mirror"
        size = f"{entry.source.bytes / 1e6:.1f}"
        card = entry.card
        table.add_row(entry.name, " ".join(entry.aliases), size, card.licence, origin, card.description)
    table_console().print(table)
