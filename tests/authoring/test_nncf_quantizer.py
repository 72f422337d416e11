"""What stays as good is quantised, what does not is returned to floats or refused; nothing is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.nncf_quantizer import Quantization, QuantizeOptions, QuantizeTask, quantize_graph
from cpuserve.errors import ModelLoadError
from cpuserve.serving.answer_agreement import AnswerAgreement, VectorReader
from cpuserve.serving.openvino_core import openvino_core

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
ROWS = [np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8) for number in range(6)]


def network(loud: float, seed: int) -> ov.Model:
    """Three convolutions; the middle one gets one channel that is ``loud`` times as large as the others.

    INT8 has one scale for all channels of an activation: the louder it is, the less is left of the rest.
    """
    random = np.random.default_rng(seed)
    data = ops.parameter([1, 8, 8, 3], np.float32, name="data")
    found = ops.transpose(data, np.array([0, 3, 1, 2]))
    for index, (inputs, outputs) in enumerate(((3, 8), (8, 8), (8, 4))):
        weights = random.normal(size=(outputs, inputs, 3, 3)).astype(np.float32) / 5
        if index == 0:
            weights[0] *= loud
        if index == 1:
            weights[:, 0] /= loud
        found = ops.convolution(found, weights, [1, 1], [1, 1], [1, 1], [1, 1])
        found = ops.relu(ops.add(found, np.full((1, outputs, 1, 1), 0.1, np.float32)))
    return ov.Model([ops.result(ops.reduce_mean(found, np.array([2, 3])))], [data])


def task(model: ov.Model) -> QuantizeTask:
    def served(made: ov.Model) -> ov.Model:
        steps = ov.preprocess.PrePostProcessor(made.clone())
        steps.input(0).tensor().set_element_type(ov.Type.u8)
        return steps.build()

    return QuantizeTask(model, served, lambda row: row[None].astype(np.float32))


def embeddings() -> AnswerAgreement:
    return AnswerAgreement(VectorReader(), "cosine")


def guarded(loud: float, seed: int, options: QuantizeOptions) -> tuple[Quantization, list[str]]:
    said: list[str] = []
    outcome = quantize_graph(task(network(loud, seed)), ROWS, ROWS, embeddings(), options, said.append)
    return outcome, said


def fake_quantizes(model: ov.Model | None) -> int:
    return 0 if model is None else sum(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def test_what_stays_as_good_is_quantised_whole():
    outcome, said = guarded(1, 1, QuantizeOptions(max_drop=0.1))
    assert (outcome.method, outcome.quantized, outcome.accuracy_float) == ("ptq", 3, 1.0)
    assert outcome.accuracy == outcome.accuracy_ptq > 0.9
    assert fake_quantizes(outcome.model) > 3  # weights too
    assert not any("accuracy control" in words for words in said)


def test_what_breaks_is_put_back_to_floats():
    outcome, said = guarded(3000, 2, QuantizeOptions(max_drop=0.7))
    assert outcome.method == "accuracy_control"
    assert outcome.accuracy_ptq is not None
    assert outcome.accuracy_ptq < 0.5
    assert 0 < outcome.quantized < 3
    assert outcome.accuracy is not None
    assert outcome.accuracy > 0.3
    assert fake_quantizes(outcome.model) > 0
    assert any("trying accuracy control" in words for words in said)


def test_nncf_makes_no_core_of_its_own(monkeypatch):
    """It drops them in any order, after which a signal is a segmentation fault where the CPU has AMX."""
    openvino_core()
    made: list[object] = []
    monkeypatch.setattr(ov.Core, "__init__", lambda self, *_: made.append(self))
    assert guarded(3000, 2, QuantizeOptions(max_drop=0.7))[0].method == "accuracy_control"
    assert made == []
    assert isinstance(openvino_core(), ov.Core)  # the name is the class again


@pytest.mark.parametrize(("control", "method", "left"), [(True, "accuracy_control", 0), (False, "ptq", 3)])
def test_what_cannot_be_mended_is_refused(control, method, left):
    outcome, _ = guarded(300, 1, QuantizeOptions(max_drop=0.005, accuracy_control=control))
    assert (outcome.model, outcome.method, outcome.quantized) == (None, method, left)
    assert outcome.verdict is not None
    assert outcome.verdict.accepted == control  # but none of it is INT8 any more


def test_a_quantised_model_is_not_quantised_again():
    outcome, _ = guarded(1, 1, QuantizeOptions(max_drop=0.5))
    assert outcome.model is not None
    with pytest.raises(ModelLoadError, match="quantised already; quantise the float model"):
        quantize_graph(task(outcome.model), ROWS, ROWS, embeddings(), QuantizeOptions(), lambda _: None)


def test_a_model_without_weights_is_refused():
    data = ops.parameter([1, 8, 8, 3], np.float32, name="data")
    model = ov.Model([ops.result(ops.reduce_mean(data, np.array([1, 2])))], [data])
    with pytest.raises(ModelLoadError, match="no convolution or matrix product"):
        quantize_graph(task(model), ROWS, ROWS, embeddings(), QuantizeOptions(), lambda _: None)


def told(code: str, home: Path) -> list[str]:
    """The calls a process makes to tell somebody; neither pytest nor CI hushes NNCF there."""
    hushing = ("CI", "NNCF_CI", "NNCF_DEV")
    environ = {name: value for name, value in os.environ.items() if name not in hushing}
    environ |= {"HOME": str(home), "https_proxy": "http://127.0.0.1:9"}  # what is tried goes nowhere
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_nobody_is_told_and_no_identifier_is_left(tmp_path):
    load = "from cpuserve.authoring.nncf_quantizer import load_nncf"
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
    assert done.returncode == 4
    assert "pip install 'cpuserve[quantize]'" in done.stderr
