"""The description of the HTTP interface, served as it is kept in the package; it describes nothing itself."""

from __future__ import annotations

from pathlib import Path

from cpuserve.web.exchange import Call, Reply

__all__ = ["Documents"]

_HERE = Path(__file__).parent


class Documents:
    """``openapi.yaml``, and the same as JSON."""

    def yaml(self, _call: Call) -> Reply:
        """``GET /openapi.yaml``."""
        return _file("openapi.yaml", "application/yaml")

    def json(self, _call: Call) -> Reply:
        """``GET /openapi.json``."""
        return _file("openapi.json", "application/json")


def _file(name: str, kind: str) -> Reply:
    return Reply(200, (_HERE / name).read_bytes(), [("Content-Type", kind)])
