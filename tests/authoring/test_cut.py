"""Cut models as they are served: by graphs, functions and onnxruntime; what is wrong with them is said."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.cut import CutOrder, CutSource, cut
from cpuserve.errors import ModelFailed, ModelLoadError, UsageError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import CutPart
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.request import Request
from cpuserve.settings import Settings
from tests.authoring.test_served_as_converted import write_onnx

SETTINGS = Settings(precision="f32", max_batch=2, allow_callables=True, origin={"precision": "--precision"})


@pytest.fixture
def repository(tmp_path):
    """A repository with a small picture model: x / 2 + 1, relu, mean over the picture, softmax."""
    data = ops.parameter((-1, 4, 4, 3), np.float32, name="data")
    scaled = ops.add(ops.divide(data, np.float32(2)), np.float32(1))
    middle = ops.relu(scaled)
    pooled = ops.reduce_mean(middle, np.array([1, 2]), keep_dims=False)
    ended = ops.softmax(pooled, 1)
    named = {"data": data, "scaled": scaled, "middle": middle, "pooled": pooled, "ended": ended}
    for name, node in named.items():
        node.output(0).set_names({name})
    model = ov.Model([ops.result(ended)], [data])
    Card(model_type="Classification", labels=("a", "b", "c"), mean_values=(10.0,)).write(model)
    found = Repository(tmp_path / "models")
    with found.publish("whole", 1) as folder:
        ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return found


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A module of heads and tails that Python can import."""
    (tmp_path / "cut_functions.py").write_text(
        textwrap.dedent(
            """
            import numpy as np

            def scale(data):
                return data / np.float64(2) + 1

            def soft(pooled):
                powers = np.exp(pooled - pooled.max(axis=1, keepdims=True))
                return powers / powers.sum(axis=1, keepdims=True)

            def wrong(pooled):
                return np.flip(soft(pooled), 1)

            def short(pooled):
                return pooled[:, :2]

            def complex_(pooled):
                return pooled.astype(complex)

            def two(pooled):
                return pooled, pooled

            def broken(pooled):
                raise KeyError("no")

            constant = 3
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("cut_functions", None)


def published(repository, *, head="ir", tail="ir", inputs=("scaled",), outputs=("pooled",), **more):
    order = CutOrder("parts", inputs, outputs, CutPart.parse(head), CutPart.parse(tail), **more)
    return cut(CutSource.find("whole", repository), order, repository, SETTINGS, 1)


def loaded(repository, name="parts", settings=SETTINGS):
    return load_pipeline(openvino_core(), repository.find(name), settings, 1)


def same(repository, png=None):
    whole, parts = loaded(repository, "whole"), loaded(repository)
    rows = np.random.default_rng(1).standard_normal((5, 4, 4, 3)).astype(np.float32)
    (wanted,), (found,) = (pipeline.infer([rows], Request()) for pipeline in (whole, parts))
    assert found == pytest.approx(wanted, abs=1e-6)
    pictures = [picture(seed) for seed in range(3)]
    (wanted,), (found,) = (pipeline.infer_pictures(pictures, Request()) for pipeline in (whole, parts))
    assert found == pytest.approx(wanted, abs=1e-6)
    assert parts.predict(pictures[0], Request()) == whole.predict(pictures[0], Request())
    return parts


def picture(seed):
    import cv2

    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_clients_see_the_whole(repository):
    report = published(repository)
    parts = same(repository)
    assert [port.names for port in parts.inputs] == [("data",)]
    assert [port.names for port in parts.outputs] == [("ended",)]
    assert parts.card == Card.read(openvino_core().read_model(repository.find("whole").xml))
    assert parts.batcher.max_batch == 2  # the core is batched
    assert report.parts.report["parity"]["on"] == "4 rows of random numbers, seed 0"
    assert report.parts.report["parity"]["outputs"]["ended"]["top1_agreement"] == 1
    kept = json.loads((report.file.xml.parent / "cut.json").read_text())
    assert kept == json.loads(json.dumps(dataclasses.asdict(report.parts)))


def test_functions_as_head_and_tail(repository, functions):
    published(repository, head="cut_functions:scale", tail="cut_functions:soft")
    parts = same(repository)
    assert [port.names for port in parts.outputs] == [("ended",)]


def test_only_a_head_and_only_a_tail(repository, functions):
    published(repository, outputs=(), head="cut_functions:scale")
    same(repository)
    published(repository, inputs=(), tail="cut_functions:soft")
    same(repository)
    assert repository.versions("parts") == [1, 2]


def test_head_and_tail_are_timed_in_decode_and_post(repository, functions, monkeypatch):
    import time

    import cut_functions  # type: ignore[import-not-found]  # written by a fixture

    def slow(run):
        def sleeping(array):
            time.sleep(0.02)
            return run(array)

        return sleeping

    published(repository, head="cut_functions:scale", tail="cut_functions:soft")
    for name in ("scale", "soft"):
        monkeypatch.setattr(cut_functions, name, slow(getattr(cut_functions, name)))
    request = Request()
    loaded(repository).predict(picture(0), request)
    assert request.stages_ns["decode"] > 20e6
    assert request.stages_ns["post"] > 20e6


def test_onnx_as_tail(repository, tmp_path):
    import onnx

    node = onnx.helper.make_node("Softmax", ["pooled"], ["ended"], axis=1)
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3])
        for name in ("pooled", "ended")
    ]
    graph = onnx.helper.make_graph([node], "tail", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(tmp_path / "t.onnx"))
    report = published(repository, tail=f"onnx:{tmp_path / 't.onnx'}")
    (tmp_path / "t.onnx").unlink()  # the version has its own
    assert report.parts.tail == CutPart("onnx", "tail/model.onnx")
    same(repository)


def test_what_is_left_out_is_the_clients_business(repository):
    published(repository, head="none", tail="none")
    parts = loaded(repository)
    assert [port.names for port in parts.inputs] == [("scaled",)]
    assert [port.names for port in parts.outputs] == [("pooled",)]
    rows = np.full((2, 4, 4, 3), 3, np.float32)
    assert parts.infer([rows], Request())[0].tolist() == [[3.0] * 3] * 2


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        ("cut_functions:wrong", "does not answer as whole: output ended"),
        ("cut_functions:short", r"gives float32\[1, 2\] for 'ended', which is float32\[1, 3\]"),
        ("cut_functions:complex_", r"gives complex128\[1, 3\] for 'ended', which is float32"),
        ("cut_functions:two", "gives 2 arrays, not 1"),
        ("cut_functions:broken", "the tail fails: python cut_functions:broken failed: KeyError: 'no'"),
        ("cut_functions:missing", "cut_functions:missing cannot be imported"),
        ("cut_functions:constant", "cut_functions:constant is not a function"),
        ("no_such_module:f", "no_such_module:f cannot be imported: .* install the module where cpuserve is"),
    ],
)
def test_tails_that_are_refused(repository, functions, tail, why):
    with pytest.raises(ModelLoadError, match=why):
        published(repository, tail=tail)
    assert repository.names() == ["whole"]
    assert not list(repository.root.glob(".publish-*"))


def test_a_wrong_tail_can_be_insisted_on(repository, functions):
    report = published(repository, tail="cut_functions:wrong", min_agreement=0)
    assert report.parts.report["parity"]["outputs"]["ended"]["top1_agreement"] < 1


def test_a_file_that_is_no_onnx(repository, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelLoadError, match=r"onnxruntime cannot load tail/model\.onnx"):
        published(repository, tail=f"onnx:{tmp_path / 'bad.onnx'}")


def test_an_extra_that_is_not_installed(repository, tmp_path, monkeypatch):
    (tmp_path / "t.onnx").touch()
    (tmp_path / "t.pb").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ModelLoadError, match=r"pip install 'cpuserve\[onnx\]'"):
        published(repository, tail=f"onnx:{tmp_path / 't.onnx'}")
    with pytest.raises(ModelLoadError, match=r"pip install 'cpuserve\[tensorflow\]'"):
        published(repository, tail=f"tf:{tmp_path / 't.pb'}")


def test_functions_run_only_where_the_operator_says_so(repository, functions):
    published(repository, head="cut_functions:scale")
    with pytest.raises(
        ModelLoadError, match=r"runs the Python function cut_functions:scale, which .*--allow-callables"
    ):
        loaded(repository, settings=Settings())


@pytest.mark.parametrize("raised", ["KeyError('no')", "MemoryError()", "SystemExit(3)", "OSError(5, 'x')"])
def test_whatever_a_tail_raises_is_said_of_it(repository, functions, tmp_path, monkeypatch, raised):
    """At the import, at the first run, and for a request: the thread, its slots and the others go on."""
    (tmp_path / "raising.py").write_text(
        f"import cut_functions\nfail = False\ndef soft(x):\n    if fail:\n        raise {raised}\n"
        "    return cut_functions.soft(x)\n"
    )
    try:
        published(repository, tail="raising:soft")
        pipeline = loaded(repository)
        rows = [np.ones((3, 4, 4, 3), np.float32)]
        wanted = pipeline.infer(rows, Request())[0]
        sys.modules["raising"].fail = True
        kind = raised.partition("(")[0]
        for _ in range(3):
            with pytest.raises(ModelFailed, match=rf"python raising:soft failed: {kind}"):
                pipeline.infer(rows, Request())
        with pytest.raises(ModelLoadError, match=f"the tail fails: python raising:soft failed: {kind}"):
            loaded(repository)
        sys.modules["raising"].fail = False
        assert (pipeline.infer(rows, Request())[0] == wanted).all()
        del sys.modules["raising"]
        (tmp_path / "raising.py").write_text(f"raise {raised}  # and longer than before")
        with pytest.raises(ModelLoadError, match=f"raising:soft cannot be imported: {kind}"):
            loaded(repository)
    finally:
        sys.modules.pop("raising", None)


def test_shape_is_not_changed_any_more(repository):
    published(repository)
    with pytest.raises(ModelLoadError, match="parts is cut or runs Python: its shape is set before"):
        loaded(repository, settings=Settings(shape="(1,8,8,3)"))


def test_settings_of_the_input_hold_for_the_whole(repository):
    published(repository)
    settings = dataclasses.replace(SETTINGS, mean="100", scale="2")
    rows = np.random.default_rng(1).standard_normal((2, 4, 4, 3)).astype(np.float32)
    (wanted,) = loaded(repository, "whole").infer([(rows - 100) / 2], Request())
    assert loaded(repository, settings=settings).infer([rows], Request())[0] == pytest.approx(
        wanted, abs=1e-6
    )


def test_a_core_is_not_cut_again(repository):
    published(repository)
    with pytest.raises(UsageError, match="parts is the core of a cut model"):
        CutSource.find("parts", repository)


def test_a_part_where_nothing_is_cut_off(repository):
    with pytest.raises(UsageError, match="--head: nothing is cut off there"):
        published(repository, inputs=(), head="none")


def test_neither_a_file_nor_a_model(repository):
    for name in ("whale", "whole/2", "whole/x"):
        with pytest.raises(UsageError, match=f"there is no file {name}"):
            CutSource.find(name, repository)


def test_an_unmeasured_quantised_model_is_not_let_in_by_cutting_it(repository):
    file = repository.find("whole").xml
    model = openvino_core().read_model(file)
    model.set_rt_info("ptq", ["nncf", "quantization", "mode"])
    with repository.publish("whole", 2) as folder:
        ov.save_model(model, folder / "model.xml")
    with pytest.raises(ModelLoadError, match="allow-unvalidated"):
        published(repository)


def test_a_head_that_is_gone(repository):
    report = published(repository)
    (report.file.xml.parent / "head" / "model.xml").unlink()
    with pytest.raises(ModelLoadError, match=r"head/model\.xml cannot be read"):
        load_pipeline(openvino_core(), ModelFile("parts", 1, report.file.xml), SETTINGS, 1)


def test_a_tail_that_cannot_be_counted_is_cut_all_the_same(tmp_path):
    """It finds as many rows as there are numbers above a limit."""
    import onnx
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("Add", ["x", "one"], ["core"]),
        helper.make_node("Greater", ["core", "limit"], ["large"]),
        helper.make_node("NonZero", ["large"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"], perm=[1, 0]),
        helper.make_node("Cast", ["rows"], ["numbers"], to=onnx.TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "w"], ["y"]),
    ]
    constants = {"one": np.float32(1), "limit": np.float32(-1), "w": np.ones((2, 3), np.float32)}
    ends = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["k", 3]),
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "finds", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, tmp_path / "finds.onnx")
    repository = Repository(tmp_path / "models")
    source = CutSource.find(str(tmp_path / "finds.onnx"), repository)
    order = CutOrder("parts", (), ("core",), CutPart.parse("ir"), CutPart.parse("ir"))
    report = cut(source, order, repository, SETTINGS, threads=1)
    assert report.parts.report["multiply_adds"] == {"core": 0, "tail": None}
    assert report.parts.report["parity"]["outputs"]["y"]["max_abs_diff"] == 0


def test_a_file_without_a_card_gets_what_its_exporter_and_its_framework_say(tmp_path):
    exported = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"}
    file = write_onnx(tmp_path, "pytorch", exported=exported)
    card = CutSource.find(str(file), Repository(tmp_path / "models")).card
    assert (card.reverse_input_channels, card.mean_values, card.scale_values) == (
        True,
        (127.5,) * 3,
        (127.5,) * 3,
    )
