"""Queries: what they may say, and which answers of a model fulfil them."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.query import Query
from cpuserve.video.region import Region, load_regions

COCO = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "traffic light")


def box(label: str, left: float, top: float, right: float, bottom: float, score: float = 0.9):
    return {"class_id": 0, "label": label, "probability": score, "box": [left, top, right, bottom]}


def test_classes_and_a_rectangle_are_read():
    query = Query.parse("car, truck,bus@0,0.55,1,1", labels=COCO)
    assert query.classes == ("car", "truck", "bus")
    assert query.region is not None
    assert query.region.contains(0.5, 0.55)
    assert not query.region.contains(0.5, 0.54)


def test_names_of_the_model_count_as_it_writes_them():
    assert Query.parse("Person", labels=COCO).classes == ("person",)
    assert Query.parse("tabby, tabby cat", labels=("tabby, tabby cat", "dog")).classes == (
        "tabby, tabby cat",
    )
    assert Query.parse("at@home", labels=("at@home", "dog")) == Query("at@home", ("at@home",))
    assert Query.parse("anything").classes == ("anything",)


def test_an_unknown_class_is_refused_with_the_nearest_and_the_list():
    with pytest.raises(UsageError, match=r"no class 'buss': did you mean bus\? It has person, bicycle, car"):
        Query.parse("buss", labels=COCO)
    with pytest.raises(UsageError, match=r"no class 'zeppelin': It has person.*traffic light$"):
        Query.parse("car,zeppelin", labels=COCO)
    with pytest.raises(UsageError, match=r"and 970 more$"):
        Query.parse("zeppelin", labels=[f"class{place}" for place in range(1000)])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no class"),
        ("@0,0,1,1", "names no class"),
        ("car,", "names no class"),
        ("car@", r"has to be left,top,right,bottom as shares"),
        ("car@0,0.5,1", r"has to be left,top,right,bottom as shares"),
        ("car@0,0.5,1,0.5", "has no area"),
        ("car@0,0,640,352", "not pixels"),
        ("car@nan,0,1,1", "has no area"),
        ("car@door", "names the region 'door': give the file that has it by --regions"),
    ],
)
def test_queries_that_cannot_be_are_refused(text, reason):
    with pytest.raises(UsageError, match=reason):
        Query.parse(text)


@pytest.mark.parametrize("name", ["min_score", "min_area"])
@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan")])
def test_thresholds_are_shares(name, value):
    with pytest.raises(UsageError, match=name):
        Query.parse("car", **{name: value})


def test_a_box_counts_by_the_middle_of_its_bottom_edge():
    query = Query.parse("car@0,0.5,0.5,1")
    assert query.present({"detections": [box("car", 0, 0, 100, 99)]}, 200, 200) == (False, 0.0)
    assert query.present({"detections": [box("car", 0, 0, 100, 101)]}, 200, 200) == (True, 0.9)
    assert query.present({"detections": [box("car", 50, 0, 160, 101)]}, 200, 200) == (False, 0.0)
    assert query.present({"detections": [box("bus", 0, 0, 100, 101)]}, 200, 200) == (False, 0.0)
    assert query.present({"detections": [box("car", 0, 150, 100, 200)]}, 200, 200) == (True, 0.9)


def test_the_best_box_is_the_score_also_below_the_threshold():
    weak = {"detections": [box("car", 0, 0, 9, 9, 0.3), box("car", 0, 0, 9, 9, 0.35)]}
    assert Query.parse("car").present(weak, 10, 10) == (False, 0.35)
    assert Query.parse("car", min_score=0.35).present(weak, 10, 10) == (True, 0.35)


def test_areas_of_several_classes_add_up():
    answer = {
        "classes": [
            {"class_id": 0, "label": "background", "area": 0.985},
            {"class_id": 7, "label": "car", "area": 0.008},
            {"class_id": 6, "label": "bus", "area": 0.007},
        ]
    }
    assert Query.parse("car").present(answer, 10, 10) == (False, 0.008)
    assert Query.parse("car,bus").present(answer, 10, 10)[0]
    assert Query.parse("car", min_area=0.005).present(answer, 10, 10)[0]


def test_the_area_in_a_region_needs_the_mask():
    query = Query.parse("car@0,0.5,1,1")
    mask = np.zeros((20, 40), np.uint8)
    mask[8:12, :5] = 7
    answer = {"classes": [{"class_id": 7, "label": "car", "area": 0.025}]}
    present, area = query.present(answer, 640, 320, mask)
    assert present
    assert area == pytest.approx(10 / 400, abs=0.003)  # half of the object lies above the region
    with pytest.raises(UsageError, match="leave the region out"):
        query.present(answer, 640, 320)


def test_the_top_class_counts_and_of_several_all_that_are_likely():
    entries = [
        {"class_id": 1, "label": "person", "probability": 0.6},
        {"class_id": 0, "label": "none", "probability": 0.45},
    ]
    assert Query.parse("person").present({"predictions": entries}, 1, 1) == (True, 0.6)
    assert Query.parse("none").present({"predictions": entries}, 1, 1) == (False, 0.45)
    assert Query.parse("none").present({"predictions": entries, "multilabel": True}, 1, 1) == (True, 0.45)
    with pytest.raises(UsageError, match="a classifier answers for the whole picture"):
        Query.parse("person@0,0,1,0.5").present({"predictions": entries}, 1, 1)


def test_other_answers_say_nothing_about_a_query():
    with pytest.raises(UsageError, match="this one answers text, probability"):
        Query.parse("car").present({"text": "A1", "probability": 1.0, "model": "m"}, 1, 1)


def test_regions_have_names(tmp_path):
    file = tmp_path / "regions.toml"
    file.write_text("door = [[0.1, 0.1], [0.5, 0.1], [0.1, 0.9]]\nroad = [0, 0.5, 1, 1]\n")
    regions = load_regions(file)
    query = Query.parse("person@door", labels=COCO, regions=regions)
    assert query.region == regions["door"]
    assert query.present({"detections": [box("person", 10, 0, 30, 40)]}, 100, 100)[0]
    assert not query.present({"detections": [box("person", 40, 0, 50, 80)]}, 100, 100)[0]
    with pytest.raises(UsageError, match="no region 'gate'; it has door, road"):
        Query.parse("person@gate", regions=regions)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"door = [[0, 0], [1", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"door = 3", "has to be a list of corners"),
        (b"door = [0, 1, 1]", "has to be a list of corners"),
        (b"door = [[0, 0], [1, 1]]", "three or more corners"),
        (b"door = [[0, 0], [1, 1], [0, 0, 1]]", "three or more corners"),
        (b"door = [[0, 0], [1, 1], [0, 480]]", "not pixels"),
        (b"door = [[0, 0], [1, 1], [0, true]]", "has to be a list of corners"),
        (b"door = [[0, 0], [1, 1], 'x']", "has to be a list of corners"),
        (b"[door]\nx = 1", "has to be a list of corners"),
    ],
)
def test_files_that_hold_no_regions_are_refused(tmp_path, content, reason):
    file = tmp_path / "regions.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        load_regions(file)
    with pytest.raises(UsageError, match="cannot be read"):
        load_regions(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["a;b", "", " "])
def test_names_of_regions_that_a_table_cannot_tell_apart_are_refused(tmp_path, name):
    file = tmp_path / "zones.toml"
    file.write_text(f'"{name}" = [0, 0, 1, 1]\n')
    with pytest.raises(UsageError, match=rf"zones.toml has a region named {name!r}: a name .* has no ;"):
        load_regions(file)


def test_the_mask_of_a_region_is_its_area():
    whole = Region.rectangle("all", (0, 0, 1, 1))
    assert whole.mask(9, 16).all()
    half = Region.rectangle("half", (0, 0.5, 1, 1)).mask(100, 60)
    assert half[51:].all()
    assert not half[:49].any()
    triangle = Region.polygon("triangle", [(0, 0), (1, 0), (0, 1)]).mask(200, 200)
    assert triangle.mean() == pytest.approx(0.5, abs=0.01)
