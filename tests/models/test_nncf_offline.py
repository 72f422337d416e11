"""NNCF quantises without a word to anyone, and without the extra the message names it."""

from __future__ import annotations

import os
import subprocess
import sys

QUANTISE = """
import sys
calls = []
def seen(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        calls.append((event, str(arguments)))
sys.addaudithook(seen)
import numpy as np, openvino as ov
from openvino import opset13 as ops
from cpuserve.models.nncf_offline import load_nncf
LOAD
data = ops.parameter([1, 3, 8, 8], np.float32)
model = ov.Model([ops.convolution(data, np.ones((4, 3, 3, 3), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])], [data])
pictures = nncf.Dataset([np.ones((1, 3, 8, 8), np.float32)] * 2)
made = nncf.quantize(model, pictures)
assert any(node.get_type_name() == "FakeQuantize" for node in made.get_ops())
import threading
for thread in threading.enumerate():
    if thread is not threading.main_thread() and not thread.daemon:
        thread.join(5)
print(len(calls), calls[:2])
"""


def quantise(load: str, home) -> str:
    """What a process that looks at its own sockets says; neither pytest nor CI hushes NNCF there."""
    environ = {name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI", "NNCF_DEV")}
    environ["HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-c", QUANTISE.replace("LOAD", load)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


def test_nncf_sends_nothing_and_leaves_no_identifier(tmp_path):
    assert quantise("nncf = load_nncf()", tmp_path) == "0 []"
    assert list(tmp_path.iterdir()) == []


def test_other_users_of_the_reporting_package_keep_it():
    code = (
        "import sys, openvino_telemetry as before; from cpuserve.models.nncf_offline import load_nncf; load_nncf();"
        "sys.exit(sys.modules['openvino_telemetry'] is not before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_the_message_names_it():
    code = (
        "import sys; sys.modules['nncf'] = None\n"
        "from cpuserve.cli import main; main(['quantize', 'digits', '--calibration', '.'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install cpuserve[quantize]" in done.stderr
