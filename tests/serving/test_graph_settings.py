"""shape, layout, color_format, mean and scale inside the graph: the numbers that come out are right."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.card import Card
from cpuserve.serving.compile_properties import compile_properties
from cpuserve.serving.graph import image_graph, image_input
from cpuserve.serving.graph_settings import apply_graph_settings
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings

PIXELS = np.arange(2 * 2 * 3, dtype=np.float32).reshape(1, 2, 2, 3)  # NHWC


def identity(shape=(1, 3, 2, 2), dtype=np.float32):
    """A model that answers its input."""
    entry = ops.parameter(shape, dtype, name="data")
    entry.output(0).set_names({"data"})
    return ov.Model(
        [ops.result(ops.add(entry, np.zeros((3, 1, 1) if len(shape) == 4 else (), dtype)))], [entry]
    )


def run(model, data):
    return openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([data])[0]


@pytest.mark.parametrize("text", ["NHWC:NCHW", '{"data": "NHWC:NCHW"}', "nhwc:nchw"])
def test_layout_lets_clients_send_another(text):
    model, card = apply_graph_settings(identity(), Card(), Settings(layout=text))
    assert card.layout == "NHWC"
    assert (run(model, PIXELS) == PIXELS.transpose(0, 3, 1, 2)).all()


def test_mean_scale_and_color_are_applied_in_the_models_own_order():
    card = Card(mean_values=(9.0,), scale_values=(9.0,))
    settings = Settings(layout="NHWC:NCHW", mean="[1, 2, 3]", scale="(2,4,8)", color_format="BGR:RGB")
    model, card = apply_graph_settings(identity(), card, settings)
    right = (PIXELS[..., ::-1] - [1, 2, 3]) / [2, 4, 8]
    assert run(model, PIXELS) == pytest.approx(right.transpose(0, 3, 1, 2))
    assert (card.mean_values, card.scale_values, card.reverse_input_channels) == ((), (), False)
    source = image_input(model, card)
    assert source is not None
    graph = image_graph(model, source, card)
    assert run(graph, PIXELS.astype(np.uint8)) == pytest.approx(right.transpose(0, 3, 1, 2))


def test_one_number_holds_for_all_channels_and_one_color_changes_no_tensor():
    model, card = apply_graph_settings(identity(), Card(), Settings(mean="1", color_format="RGB"))
    assert card.reverse_input_channels
    data = PIXELS.transpose(0, 3, 1, 2)
    assert run(model, data) == pytest.approx(data - 1)


def test_shape_changes_the_picture_and_leaves_the_rest():
    model, card = apply_graph_settings(identity((-1, 3, -1, -1)), Card(topk=3), Settings(shape="(1,3,4,6)"))
    source = image_input(model, card)
    assert source is not None
    assert (source.width, source.height, card.topk) == (6, 4, 3)


def test_nothing_asked_for_changes_nothing():
    model = identity()
    card = Card(mean_values=(1.0,))
    assert apply_graph_settings(model, card, Settings()) == (model, card)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shape": "(1,3,?,4)"}, "no shape such as"),
        ({"shape": "(1,3,0,4)"}, "no shape such as"),
        ({"shape": "(1,7,2,2)"}, "does not take shape"),
        ({"shape": '{"other": "(1,3,2,2)"}'}, "'data'"),
        ({"layout": "a:b:c"}, "colon"),
        ({"layout": "N...:NCHW"}, "colon"),
        ({"layout": "NHW:NCHW"}, "do not fit"),
        ({"mean": "[1,2]"}, "3 channels"),
        ({"mean": "x"}, "neither a number"),
        ({"scale": "0"}, "cannot be 0"),
        ({"color_format": "NV12:RGB"}, "neither one word"),
        ({"color_format": "GRAY:RGB"}, "only RGB and BGR"),
    ],
)
def test_what_does_not_fit_is_named(settings, words):
    with pytest.raises(ModelLoadError) as caught:
        apply_graph_settings(identity(), Card(), Settings(**settings))
    assert words in str(caught.value)


def test_models_that_take_no_pictures_or_no_floats():
    with pytest.raises(ModelLoadError, match="one picture input"):
        apply_graph_settings(identity((1, 5)), Card(), Settings(mean="1"))
    with pytest.raises(ModelLoadError, match="floats"):
        apply_graph_settings(identity(dtype=np.uint8), Card(), Settings(mean="1"))


def test_properties_of_the_plugin_without_those_of_the_seat():
    settings = Settings(
        plugin_config='{"NUM_STREAMS": 3, "ENABLE_MMAP": false}', precision="f32", cache_dir="/c"
    )
    assert compile_properties(settings, 2) == {
        "ENABLE_MMAP": False,
        "INFERENCE_PRECISION_HINT": "f32",
        "CACHE_DIR": "/c",
    }
    settings = Settings(streams=1, precision="auto")
    assert compile_properties(settings, 2) == {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2}
    with pytest.raises(UsageError, match="JSON object"):
        compile_properties(Settings(plugin_config="[]"), 1)
