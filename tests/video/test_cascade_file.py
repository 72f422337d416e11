"""A cascade is read as it was written; anything else is refused with the file named."""

import math
from dataclasses import replace

import pytest

from cpuserve.errors import UsageError
from cpuserve.video.cascade_choice import REFERENCE_ONLY, Choice, PacketRule
from cpuserve.video.cascade_file import Cascade, CnnRule, FrameSampling, PacketThresholds
from cpuserve.video.region import Region
from cpuserve.video.scale import Scale
from tests.video.made_cascade import CASCADE, PROMISE, write_cascade


def test_a_cascade_is_read_as_it_was_written(tmp_path):
    written = write_cascade(tmp_path)
    assert set(written.files) == {"difference.npz", "specialised.xml", "specialised.bin"}
    assert Cascade.load(tmp_path) == written
    assert replace(written, files={}) == CASCADE


def test_a_cascade_may_have_neither_detector_nor_cnn(tmp_path):
    written = write_cascade(tmp_path, difference=None, specialised=None, sampling=FrameSampling(10, "nonkey"))
    assert Cascade.load(tmp_path) == written
    assert written.files == {}


def test_the_choice_of_a_cascade_has_all_its_thresholds(tmp_path):
    (tmp_path / "packets.npz").write_bytes(b"weights")
    written = write_cascade(
        tmp_path, packets=PacketThresholds("packets.npz", 0.01, 0.99), sampling=FrameSampling(5, "nonref")
    )
    wanted = Choice(5, "nonref", PacketRule(0.01, 0.99), "global:10", 3.25, "f16", 0.03, 0.91)
    assert Cascade.load(tmp_path).choice == written.choice == wanted
    assert write_cascade(tmp_path, difference=None, specialised=None).choice == REFERENCE_ONLY


def test_the_query_is_read_with_its_regions_and_limits(tmp_path):
    write_cascade(tmp_path, min_score=0.25)
    query = Cascade.load(tmp_path).parsed_query()
    assert query.classes == ("car",)
    assert query.region == Region("lane", ((0.0, 0.6), (1.0, 0.6), (1.0, 1.0)))
    assert (query.min_score, query.min_area) == (0.25, 0.01)


@pytest.mark.parametrize(
    ("query", "classes"), [("CAR@lane", ("car",)), ("tench, Tinca tinca", ("tench, Tinca tinca",))]
)
def test_classes_are_those_of_the_model_however_the_user_wrote_them(tmp_path, query, classes):
    write_cascade(tmp_path, query=query, classes=classes)
    assert Cascade.load(tmp_path).parsed_query().classes == classes
    edit(tmp_path, f'query = "{query}"', 'query = "dog"')
    with pytest.raises(UsageError, match=r"cascade.toml: the model has no class 'dog'"):
        Cascade.load(tmp_path)


def test_whole_numbers_are_read_where_parts_are_possible(tmp_path):
    write_cascade(tmp_path)
    edit(tmp_path, "delta = 3.25", "delta = 3")
    assert Cascade.load(tmp_path).difference.delta == 3.0


def edit(directory, old, new):
    file = directory / "cascade.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "has format 2, this version reads 1"),
        ("format = 1\n", "", "has format None"),
        ("format = 1", "format = 1\nspeed = 3", "speed is unknown; known are query, reference"),
        ("delta = 3.25", "delta = 3.25\ndelay = 10", "difference.delay is unknown; known are detector"),
        ("delta = 3.25\n", "", "difference.delta is missing"),
        ("delta = 3.25", "delta = nan", "difference.delta is nan, not in 0 to 1e+12"),
        ("delta = 3.25", "delta = -1.0", "difference.delta is -1.0, not in 0 to 1e+12"),
        ("delta = 3.25", "delta = true", "difference.delta is True, not a value of type float"),
        ("c_low = 0.03", "c_low = 0.95", "specialised.c_high is 0.91, not in 0.95 to 1"),
        ("c_high = 0.91", "c_high = 1.2", "specialised.c_high is 1.2, not in 0.03 to 1"),
        ("looks = []", "looks = [2, 30]", "sampling.looks is 30, not in 0 to 29"),
        ("looks = []", "looks = [27, 2]", "sampling.looks is [27, 2], not ascending"),
        ("looks = []", "looks = [2]", "sampling.looks goes with no packets, no difference"),
        ("every = 1", "every = 0", "sampling.every is 0, not in 1 to 1e+06"),
        ("every = 1", "every = 1.5", "sampling.every is 1.5, not a value of type int"),
        ('which = "all"', 'which = "some"', "sampling.which is 'some', not one of all, nonref, nonkey"),
        (
            'scaler = "area"',
            'scaler = "lanczos"',
            "scale.scaler is 'lanczos', not one of bilinear",
        ),
        ("width = 416", "width = 0", "reference.scale.width is 0, not in 1 to 16384"),
        ('fit = "fit_to_window"', 'fit = "tile"', "reference.scale: fit is one of"),
        ("    0.5,\n", "", "difference.scale.region has 3 values, not 4"),
        ("    0.5,\n", "    1.0,\n", "difference.scale.region is (0.0, 1.0, 1.0, 1.0), not x0 < x1"),
        ("delta = 3.25", "delta = inf", "difference.delta is inf, not in 0 to 1e+12"),
        ("confidence = 0.95", "confidence = 95.0", "promise.confidence is 95.0, not above 0 and below 1"),
        ("confidence = 0.95", "confidence = 1.0", "promise.confidence is 1.0, not above 0 and below 1"),
        ("fn = 0.01", "fn = 0.0", "promise.fn is 0.0, not above 0 and below 1"),
        ("fp = 0.02", "fp = 1.0", "promise.fp is 1.0, not above 0 and below 1"),
        ("more_minutes = 0.0", "more_minutes = nan", "promise.more_minutes is nan, not in 0 to inf"),
        (
            "positive_windows = 320",
            "positive_windows = -4",
            "promise.positive_windows is -4, not in 0 to inf",
        ),
        ('query = "car@lane"', 'query = ""', "query '' names no class"),
        ('query = "car@lane"', 'query = "car@door"', "has no region 'door'; it has lane"),
        ("min_score = 0.4", "min_score = 1.5", "min_score is 1.5"),
        ('file = "specialised.xml"', 'file = "../specialised.xml"', "../specialised.bin' is no file name"),
        ("query =", "query", "is no TOML"),
        ("[difference]", "[[difference]]", "difference is [{'detector'"),
    ],
)
def test_an_edited_cascade_is_refused_by_name(tmp_path, old, new, said):
    write_cascade(tmp_path)
    edit(tmp_path, old, new)
    with pytest.raises(UsageError) as refused:
        Cascade.load(tmp_path)
    assert str(tmp_path / "cascade.toml") in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["difference.npz", "specialised.xml", "specialised.bin"])
def test_a_changed_or_missing_file_is_refused_by_name(tmp_path, name):
    write_cascade(tmp_path)
    (tmp_path / name).write_bytes(b"another")
    with pytest.raises(UsageError, match=rf"{name} is not the file .*cascade.toml was written for"):
        Cascade.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=rf"{name}, which .*cascade.toml names: No such file"):
        Cascade.load(tmp_path)


def test_a_directory_without_a_cascade_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cascade.toml cannot be read: No such file.*video train writes it"):
        Cascade.load(tmp_path)
    (tmp_path / "cascade.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"cascade.toml is no TOML"):
        Cascade.load(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"specialised": CnnRule("f16", "specialised.xml", Scale(50, 50), 0.5, 0.2)},
        {"specialised": CnnRule("f16", "missing.xml", Scale(50, 50), 0.1, 0.2)},
        {"costs": {"reference": math.nan}},
        {"promise": replace(PROMISE, fn=1.5)},
    ],
)
def test_what_makes_no_sense_is_not_written(tmp_path, changes):
    with pytest.raises(UsageError):
        write_cascade(tmp_path, **changes)
    assert not (tmp_path / "cascade.toml").exists()
