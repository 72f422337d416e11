"""Serve deep-learning vision models on the CPU servers people already own.

`load` runs a model in this process, `Client` asks a server. Neither is imported before it is used, so that
``import cpuserve`` stays fast and loads no OpenVINO.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpuserve.client import Client
    from cpuserve.local_model import Model, load

__all__ = ["Client", "Model", "__version__", "load"]

__version__ = "0.1.0"

_MODULES = {"Client": "cpuserve.client", "Model": "cpuserve.local_model", "load": "cpuserve.local_model"}

# Where this package is installed, as it is with NNCF, OpenVINO reports every import of it to Google Analytics
# and NNCF every use. Both do without where it cannot be imported, and nothing here may report on users.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # how `import` is told so


if not TYPE_CHECKING:  # type checkers see the imports above instead, and know every other name to be wrong

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
