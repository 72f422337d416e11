"""The options of commands that may have frames answered by replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import settings_from
from cpuserve.settings import SETTINGS

if TYPE_CHECKING:
    from cpuserve.settings import Settings
    from cpuserve.video.replicas import Replicas
    from cpuserve.video.scale import Scaler

__all__ = ["REPLICA_OPTIONS", "opened_replicas", "replica_options"]

REPLICA_OPTIONS = ("replicas", "payload", "api_key", "in_flight", "replica_timeout", "replica_wait")
"""Names of the arguments that `replica_options` adds."""


def replica_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--replicas`` and what belongs to it; `opened_replicas` takes the values."""
    for option in reversed(
        (
            click.option(
                "--replicas",
                metavar="URL,...",
                help="Servers that answer the frames instead of this machine: http://HOST:PORT, "
                "https://HOST, grpc://HOST:PORT or grpcs://HOST:PORT; @FILE or @http://... is a registry "
                "of them, which is followed.",
            ),
            click.option(
                "--payload",
                type=SuggestingChoice(["auto", "raw", "jpeg"]),
                default="auto",
                show_default=True,
                help="Send replicas pixels (answers equal local ones) or JPEG (fewer bytes, answers differ a "
                "little); auto is raw, unless JPEG is much faster on the network at hand.",
            ),
            click.option(
                "--api-key",
                envvar="CPUSERVE_API_KEY",
                default="",
                metavar="KEY",
                help="API key for the replicas. [env CPUSERVE_API_KEY]",
            ),
            click.option(
                "--in-flight",
                type=click.IntRange(1),
                default=4,
                show_default=True,
                metavar="N",
                help="Most requests that a replica has at a time.",
            ),
            click.option(
                "--replica-timeout",
                type=NumberRange(0.1),
                default=30.0,
                show_default=True,
                metavar="SECONDS",
                help="A request without an answer for so long goes to another replica.",
            ),
            click.option(
                "--replica-wait",
                type=NumberRange(0.1),
                default=60.0,
                show_default=True,
                metavar="SECONDS",
                help="The run ends once no replica was usable for so long.",
            ),
        )
    ):
        command = option(command)
    return command


def opened_replicas(
    model: str,
    scaler: Scaler,
    flags: dict[str, Any],
    settings: Settings | None = None,
    *,
    checksum: str = "",
) -> Replicas | None:
    """The replicas that the options name; None without ``--replicas``.

    Args:
        model: ``NAME`` or ``NAME/VERSION``.
        scaler: of the scale.
        flags: the arguments of `replica_options`, which are taken out of it.
        settings: of this machine, for servers that take tensors only; None: those among ``flags``.
        checksum: of the model's files; empty for any.

    Raises:
        UsageError: a URL is none.
        CpuserveError: no replica serves the model.
    """
    given = {name: flags.pop(name) for name in REPLICA_OPTIONS}
    if given["replicas"] is None:
        return None
    from cpuserve.video.replicas import Replicas  # noqa: PLC0415  # not for --help

    return Replicas(
        [url for url in given["replicas"].split(",") if url.strip()],
        model,
        scaler=scaler,
        payload=given["payload"],
        api_key=given["api_key"],
        in_flight=given["in_flight"],
        timeout_s=given["replica_timeout"],
        wait_s=given["replica_wait"],
        checksum=checksum,
        settings=settings or settings_from(None, {name: flags[name] for name in flags if name in SETTINGS}),
    )
