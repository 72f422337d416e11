"""Writes result files: figures with the command, the date and the machine."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology

__all__ = ["write_result"]


def write_result(file: Path, command: Sequence[str], content: Mapping[str, Any]) -> None:
    """Write a result file.

    Args:
        file: the file to write.
        command: the command line; directories are removed from it.
        content: the figures.
    """
    words = [Path(word).name if "/" in word else word for word in command]
    document = {
        "command": " ".join(words),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short,
        **content,
    }
    file.write_text(json.dumps(document, indent=1) + "\n")
