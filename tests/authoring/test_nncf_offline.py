"""OpenVINO and NNCF work without a word to anyone, and without the extra the message names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Reports are sent from a forked child: what is seen goes to stdout as it happens, from whatever process.
SEEN = """
import os, sys
def seen(event, arguments):
    if event.startswith(("socket.", "os.fork", "subprocess.", "urllib.")):
        os.write(1, (event + chr(10)).encode())
sys.addaudithook(seen)
"""
QUANTISE = """
import numpy as np, openvino as ov
from openvino import opset13 as ops
nncf = load_nncf()
data = ops.parameter([1, 3, 8, 8], np.float32)
weights = np.ones((4, 3, 3, 3), np.float32)
model = ov.Model([ops.convolution(data, weights, [1, 1], [0, 0], [0, 0], [1, 1])], [data])
sys.stdout = open(os.devnull, "w")
made = nncf.quantize(model, nncf.Dataset([np.ones((1, 3, 8, 8), np.float32)] * 2))
sys.exit(not any(node.get_type_name() == "FakeQuantize" for node in made.get_ops()))
"""


def told(code: str, home: Path) -> list[str]:
    """The calls a process makes to tell somebody; neither pytest nor CI hushes NNCF there."""
    hushing = ("CI", "NNCF_CI", "NNCF_DEV")
    environ = {name: value for name, value in os.environ.items() if name not in hushing}
    environ |= {"HOME": str(home), "https_proxy": "http://127.0.0.1:9"}  # what is tried goes nowhere
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_nobody_is_told_and_no_identifier_is_left(tmp_path):
    load = "from cpuserve.authoring.nncf_offline import load_nncf"
    assert told(f"{load}{SEEN}{QUANTISE}", tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_openvino_alone_would_tell(tmp_path):
    assert "os.fork" in told(f"{SEEN}import openvino", tmp_path)
    assert (tmp_path / "intel").is_dir()


def test_without_the_extra_the_message_names_it():
    code = (
        "import sys; sys.modules['nncf'] = None\n"
        "from cpuserve.cli import main; main(['quantize', 'digits', '--calibration', '.'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install cpuserve[quantize]" in done.stderr
