"""Serve deep-learning vision models on the CPU servers people already own."""

import sys

__version__ = "0.1.0"

# Where this package is installed, as it is with NNCF, OpenVINO reports every import of it to Google Analytics
# and NNCF every use. Both do without where it cannot be imported, and nothing here may report on users.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # how `import` is told so
