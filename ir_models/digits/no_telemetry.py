"""Keeps OpenVINO's converter and NNCF from reporting their use over the network; must be imported first.

Both send reports with the package openvino_telemetry, unless a file in the home directory or CI=true says
no, and both do without it where it cannot be imported.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's way to say: not to be had
