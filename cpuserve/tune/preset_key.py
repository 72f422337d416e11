"""The machine, OpenVINO and model that a preset belongs to, and how much two of them differ."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.models.repository import ModelFile

__all__ = ["IR", "MACHINE", "OPENVINO", "PresetKey", "model_digest"]

IR, OPENVINO = "IR digest", "OpenVINO version"

MACHINE: Mapping[str, float] = {
    "cpu": 1.0,
    "flags": 4.0,
    "cores": 2.0,
    "cpus": 1.0,
    "threads": 1.0,
    "kinds": 1.0,
    "nodes": 2.0,
    "smt": 1.0,
    "cache_bytes": 0.5,
    "governor": 0.25,
}
"""What of a machine decides its speed, and how much a difference in it counts.

Numbers count by their ratio, once a doubling; instruction sets by the share that only one of the two has;
everything else as equal or not.
"""


@dataclass(frozen=True)
class PresetKey:
    """The machine, OpenVINO version and models that a preset belongs to.

    Attributes:
        fingerprint: short name of the machine, also the name of the preset's directory.
        machine: the rows of `MACHINE`, by name.
        openvino: the version of OpenVINO.
        ir_sha256: of the model's files, by the model's name.
    """

    fingerprint: str
    machine: Mapping[str, Any]
    openvino: str
    ir_sha256: Mapping[str, str]

    @classmethod
    def read(cls, *files: ModelFile, root: Path = Path("/")) -> PresetKey:
        """Read the key of these models on this machine.

        Args:
            files: the models that are served together.
            root: where /sys and /proc are.
        """
        found = Fingerprint.read(root, Budget.read(root), Topology.read(root))
        machine = {name: getattr(found, name) for name in MACHINE} | {"flags": list(found.flags)}
        digests = {file.name: model_digest(file) for file in files}
        return cls(found.short, machine, _openvino(), digests)

    @classmethod
    def from_json(cls, content: Any) -> PresetKey:
        """What `to_json` wrote.

        Raises:
            UsageError: it is no such object.
        """
        try:
            key = cls(**content)
            texts = [key.fingerprint, key.openvino, *key.ir_sha256.values(), *key.machine["flags"]]
            if all(isinstance(text, str) for text in texts) and _whole(key.machine):
                return key
        except (TypeError, AttributeError, KeyError):
            pass
        raise UsageError(f"its key is not fingerprint, machine ({', '.join(MACHINE)}), openvino, ir_sha256")

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON."""
        return asdict(self)

    def differences(self, other: PresetKey, model: str) -> dict[str, tuple[Any, Any]]:
        """The differences to another key, by name, as pairs of this value and the other."""
        pairs = {name: (self.machine[name], other.machine[name]) for name in MACHINE}
        pairs[OPENVINO] = (self.openvino, other.openvino)
        pairs[IR] = (self.ir_sha256.get(model, "")[:12], other.ir_sha256.get(model, "")[:12])
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def distance(self, other: PresetKey) -> float:
        """How much the machines differ, weighted by `MACHINE`; 0 for equal ones."""
        return sum(
            weight * _apart(self.machine[name], other.machine[name]) for name, weight in MACHINE.items()
        )


def model_digest(file: ModelFile) -> str:
    """SHA-256 over the contents of a model's files."""
    whole = hashlib.sha256()
    for path in file.files:
        with path.open("rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()


def _openvino() -> str:
    """The version, without importing it: who asks may be about to fork."""
    try:
        return metadata.version("openvino")
    except metadata.PackageNotFoundError:
        return "unknown"


def _whole(machine: Mapping[str, Any]) -> bool:
    """Whether it has all rows of `MACHINE`, each of its type."""
    kinds = {"flags": list, "smt": bool, "cpu": str, "kinds": str, "governor": str}
    return set(machine) == set(MACHINE) and all(
        type(value) is kinds.get(name, int) for name, value in machine.items()
    )


def _apart(one: Any, other: Any) -> float:
    if isinstance(one, list) and isinstance(other, list):
        return len({*one} ^ {*other}) / max(1, len({*one} | {*other}))
    if one == other:
        return 0.0
    numbers = all(isinstance(value, (int, float)) and value > 0 for value in (one, other))
    return abs(math.log2(one) - math.log2(other)) if numbers and not isinstance(one, bool) else 1.0
