"""Renders a Jinja2 template to an HTML page in one file that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["embedded", "render"]

_OWN = "cpuserve.reports"


def render(package: str, template: str, **values: object) -> str:
    """The page that a template makes.

    Every value is escaped, except what has an ``__html__`` method such as a `Drawing`. The page carries a
    content security policy that forbids it to load anything and to run any script but the embedded one.

    Args:
        package: the package in whose folder ``templates`` the template is.
        template: its file name; it extends ``base.html``.
        values: what it may use.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not given.
    """
    return _environment(package).get_template(template).render(values)


def embedded(name: str) -> Markup:
    """The text of a style sheet or script beside the templates here, to be put into a page as it is."""
    environment = _environment(_OWN)
    if environment.loader is None:
        raise LookupError(name)
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704  # a file of this package


def _script_hash(script: str) -> str:
    """What a content security policy calls this script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_OWN)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(embedded=embedded, script_hash=_script_hash)
    return environment
