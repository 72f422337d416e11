"""Writes the schemas beside it: what Kubernetes, KServe, KEDA and the Prometheus operator take, reduced.

Run by hand when a version is raised, where the packages of `PACKAGES` are installed (kserve needs only be
unpacked: `pip install --no-deps`)::

    python -m tests.deploy.make_schemas /path/to/site-packages
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "schemas"
PACKAGES = ("kubernetes-validate", "kserve", "cloudcoil-models-keda", "cloudcoil-models-prometheus-operator")
KINDS = {  # of Kubernetes itself, and what KServe's kinds are made of
    *("apps.v1.Deployment", "core.v1.Service", "core.v1.ServiceAccount", "policy.v1.PodDisruptionBudget"),
    *("core.v1.ConfigMap", "core.v1.Pod"),
}
DEFINED = "#/$defs/"
PLACES = ("io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1.")
KSERVE = {
    "V1alpha1ClusterStorageContainer": "serving.kserve.io/v1alpha1/ClusterStorageContainer",
    "V1alpha1ClusterServingRuntime": "serving.kserve.io/v1alpha1/ClusterServingRuntime",
    "V1beta1InferenceService": "serving.kserve.io/v1beta1/InferenceService",
}
NOT_KEPT = {"description", "title", "default", "$schema", "examples"}
SIMPLE = {"str": "string", "int": "integer", "bool": "boolean", "float": "number", "object": "object"}


def kubernetes(folder: Path) -> dict[str, Any]:
    """The kinds of `KINDS` and all they refer to, in the newest strict schema of kubernetes-validate."""
    versions = (folder / "kubernetes_validate" / "kubernetes-json-schema").glob("*-local-strict")
    newest = max(versions, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])
    known = json.loads((newest / "_definitions.json").read_text())["$defs"]
    known = json.loads(json.dumps(known).replace(DEFINED, "#/definitions/"))
    wanted = [f"io.k8s.api.{kind}" for kind in sorted(KINDS)]
    found: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = _stripped(known[name])
            wanted += re.findall(r'"#/definitions/([^"]+)"', json.dumps(found[name]))
    kinds = {
        f"{f'{group}/' if (group := kind.split('.')[0]) != 'core' else ''}v1/{kind.rpartition('.')[2]}":
        {"$ref": f"#/definitions/io.k8s.api.{kind}"}
        for kind in sorted(KINDS)
    }  # fmt: skip
    return {"version": newest.name.split("-")[0], "kinds": kinds, "definitions": dict(sorted(found.items()))}


def kserve(folder: Path, core: dict[str, Any]) -> dict[str, Any]:
    """KServe's kinds by the generated classes of its client; what is Kubernetes' stays a reference to it."""
    models = folder / "kserve" / "models"
    found: dict[str, Any] = {}
    wanted = list(KSERVE)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        source = (models / f"{_snake(name)}.py").read_text()
        types = ast.literal_eval(re.search(r"openapi_types = (\{.*?\})", source, re.S)[1])  # type: ignore[index]
        names = ast.literal_eval(re.search(r"attribute_map = (\{.*?\})", source, re.S)[1])  # type: ignore[index]
        needed = [names[one] for one in re.findall(r"Invalid value for `(\w+)`, must not be", source)]
        found[name] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {names[key]: _typed(kind, models, core, wanted) for key, kind in types.items()},
            **({"required": needed} if needed else {}),
        }
    kinds = {kind: {"$ref": f"#/definitions/{name}"} for name, kind in KSERVE.items()}
    return {"version": _version(folder, "kserve"), "kinds": kinds, "definitions": dict(sorted(found.items()))}


def _typed(kind: str, models: Path, core: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        return {"type": "array", "items": _typed(inner[1], models, core, wanted)}
    if inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return {"type": "object", "additionalProperties": _typed(inner[1], models, core, wanted)}
    if kind in SIMPLE:
        return {"type": SIMPLE[kind]}
    for place in PLACES:
        if (own := place + kind.removeprefix("V1")) in core:
            return {"$ref": f"kubernetes.json#/definitions/{own}"}
    if (models / f"{_snake(kind)}.py").exists():
        wanted.append(kind)
        return {"$ref": f"#/definitions/{kind}"}
    return {}


def _snake(name: str) -> str:
    """`V1beta1TFServingSpec` -> `v1beta1_tf_serving_spec`."""
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", parts).lower()


def custom(module: str, kind: str, group: str, package: str, folder: Path) -> dict[str, Any]:
    """A custom kind by the pydantic classes that are made from its definition; nothing unknown is allowed."""
    sys.path.insert(0, str(folder))
    model = getattr(importlib.import_module(module), kind)
    schema = _strict(_stripped(model.model_json_schema(by_alias=True)))
    definitions = schema.pop("$defs")
    definitions = json.loads(json.dumps(definitions).replace("#/$defs/", "#/definitions/"))
    root = json.loads(json.dumps(schema).replace("#/$defs/", "#/definitions/"))
    # the metadata of every kind is Kubernetes' own
    root["properties"]["metadata"] = {
        "$ref": "kubernetes.json#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    }
    return {
        "version": _version(folder, package),
        "kinds": {f"{group}/{kind}": {"$ref": f"#/definitions/{kind}"}},
        "definitions": dict(sorted({**definitions, kind: root}.items())),
    }


def _version(folder: Path, package: str) -> str:
    info = next(folder.glob(f"{package}-*.dist-info/METADATA")).read_text()
    (version,) = re.findall(r"^Version: (\S+)", info, re.M)
    return str(version)


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    given = schema.get("anyOf")
    if given and {"type": "null"} in given:
        rest = [one for one in given if one != {"type": "null"}]
        return _strict(rest[0] if len(rest) == 1 else {"anyOf": rest})
    made = {key: _strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        made["additionalProperties"] = False
    return made


def _stripped(schema: Any, *, names: bool = False) -> Any:
    """Without words for people; ``names``: the keys are names of properties, not of the schema's language."""
    if isinstance(schema, list):
        return [_stripped(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _stripped(value, names=not names and key in {"properties", "definitions", "$defs"})
        for key, value in schema.items()
        if names or (key not in NOT_KEPT and not key.startswith("x-kubernetes"))
    }


def write(name: str, schema: dict[str, Any]) -> None:
    """One definition a line, so that a change of versions can be read."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in schema["definitions"].items()]
    head = "".join(f" {json.dumps(key)}: {json.dumps(schema[key])},\n" for key in ("version", "kinds"))
    inner = ",\n".join(lines)
    (HERE / f"{name}.json").write_text(f'{{\n{head} "definitions": {{\n{inner}\n }}\n}}\n')


def main(words: Iterable[str]) -> None:
    """Write every schema but that of balloons, which is a file of its own."""
    (place,) = words
    folder = Path(place)
    own = kubernetes(folder)
    write("kubernetes", own)
    write("kserve", kserve(folder, own["definitions"]))
    keda = ("ScaledObject", "keda.sh/v1alpha1", "cloudcoil_models_keda")
    prometheus = ("PodMonitor", "monitoring.coreos.com/v1", "cloudcoil_models_prometheus_operator")
    write("keda", custom("cloudcoil.models.keda.v1alpha1", *keda, folder))
    write("prometheus", custom("cloudcoil.models.prometheus_operator.v1", *prometheus, folder))


if __name__ == "__main__":
    main(sys.argv[1:])
