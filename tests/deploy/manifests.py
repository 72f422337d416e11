"""Reads manifests and checks each against the schema of its kind."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from referencing import Registry
from referencing.jsonschema import DRAFT7

from tests.conftest import ROOT

__all__ = ["DEPLOY", "Manifest", "check", "of_kind", "pods", "read", "read_text"]

DEPLOY = ROOT / "deploy"
Manifest = dict[str, Any]

_SCHEMAS = Path(__file__).parent / "schemas"


def read_text(text: str) -> list[Manifest]:
    """Every manifest of a YAML text."""
    return [one for one in yaml.safe_load_all(text) if one]


def read(path: str) -> list[Manifest]:
    """Every manifest of a file below deploy/."""
    return read_text((DEPLOY / path).read_text())


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [one for one in manifests if one["kind"] == kind]


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """What `spec` the pods of all deployments have."""
    return [one["spec"]["template"]["spec"] for one in of_kind(manifests, "Deployment")]


def check(manifest: Manifest) -> None:
    """Hold a manifest against the schema of its kind.

    Raises:
        KeyError: No schema of that kind is kept.
        jsonschema.ValidationError: It is not as Kubernetes, or the maker of the kind, wants it.
    """
    file, schema = _kinds()[f"{manifest['apiVersion']}/{manifest['kind']}"]
    validator = Draft7Validator({"$ref": f"{file}{schema['$ref']}"}, registry=_registry())
    validator.validate(manifest)


@cache
def _kinds() -> dict[str, tuple[str, dict[str, str]]]:
    """Kind with its version, to the file of its schema and the reference inside."""
    files = {path.name: json.loads(path.read_text()) for path in _SCHEMAS.glob("*.json")}
    return {
        kind: (name, reference)
        for name, content in files.items()
        for kind, reference in content["kinds"].items()
    }


@cache
def _registry() -> Registry[Any]:
    resources = [
        (path.name, DRAFT7.create_resource(json.loads(path.read_text()))) for path in _SCHEMAS.glob("*.json")
    ]
    return Registry().with_resources(resources)
