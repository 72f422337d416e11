"""Sets of pictures: folders, CSV and COCO's JSON, and what is refused in them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cpuserve.authoring.labelled_pictures import (
    Box,
    LabelledPicture,
    evenly_chosen,
    pictures_checksum,
    read_pictures,
)
from cpuserve.errors import UsageError

LABELS = ("background", "Egyptian cat", "dog", "dog")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_a_folder_of_folders_names_the_classes(tmp_path):
    put(tmp_path, "egyptian_cat/1.jpg", "dog/deep/2.PNG", "dog/notes.txt", "0/3.bmp")
    found = {sample.file.name: sample.classes for sample in read_pictures(tmp_path, LABELS)}
    assert found == {"1.jpg": {1}, "2.PNG": {2, 3}, "3.bmp": {0}}


def test_a_folder_that_is_no_class_among_others_is_refused(tmp_path):
    put(tmp_path, "dog/1.jpg", "cta/2.jpg")
    with pytest.raises(UsageError, match="'cta' is named after no class"):
        read_pictures(tmp_path, LABELS)


def test_folders_that_are_no_classes_say_nothing_of_them(tmp_path):
    put(tmp_path, "monday/1.jpg", "tuesday/2.jpg")
    assert [sample.classes for sample in read_pictures(tmp_path, LABELS)] == [None, None]


def test_a_picture_may_be_named_after_its_class_but_a_number_is_no_name(tmp_path):
    put(tmp_path, "Egyptian-Cat.jpg", "000002.jpg", "photo.jpg")
    found = {sample.file.name: sample.classes for sample in read_pictures(tmp_path, LABELS)}
    assert found == {"Egyptian-Cat.jpg": {1}, "000002.jpg": None, "photo.jpg": None}


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        ("file,label\na.jpg,dog\n", LabelledPicture(Path("a.jpg"), frozenset((2, 3)))),
        ("label,file\n1,a.jpg\n", LabelledPicture(Path("a.jpg"), frozenset((1,)))),
        ("file,mask\na.jpg,m/a.png\n", LabelledPicture(Path("a.jpg"), mask=Path("m/a.png"))),
        ("file\na.jpg\n", LabelledPicture(Path("a.jpg"))),
        (
            "file,x1,y1,x2,y2,class\na.jpg,1,2,3.5,4,Egyptian cat\na.jpg,0,0,9,9,0\n",
            LabelledPicture(Path("a.jpg"), boxes=(Box((1, 2, 3.5, 4), 1), Box((0, 0, 9, 9), 0))),
        ),
        ("file,x1,y1,x2,y2,class\na.jpg,,,,,\n", LabelledPicture(Path("a.jpg"), boxes=())),
    ],
)
def test_a_csv(tmp_path, text, sample):
    (tmp_path / "set.csv").write_text("\ufeff" + text, encoding="utf-8")
    (found,) = read_pictures(tmp_path / "set.csv", LABELS)
    relative = [None if path is None else path.relative_to(tmp_path) for path in (found.file, found.mask)]
    assert (relative, found.classes, found.boxes) == (
        [sample.file, sample.mask],
        sample.classes,
        sample.boxes,
    )


COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    "annotations": [{"image_id": 7, "bbox": [10, 20, 5, 6], "category_id": 18, "iscrowd": 1}],
    "categories": [{"id": 18, "name": "Egyptian cat"}],
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_coco(tmp_path, encoding):
    (tmp_path / "instances.json").write_text(json.dumps(COCO), encoding=encoding)
    first, second = read_pictures(tmp_path / "instances.json", LABELS)
    assert first == LabelledPicture(tmp_path / "a.jpg", boxes=(Box((10, 20, 15, 26), 1, crowd=True),))
    assert second.boxes == ()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "picture,label\na.jpg,dog\n", "no column `file`"),
        ("a.csv", "file,label\na.jpg,wolf\n", "no class 'wolf'"),
        ("a.csv", "file,label\na.jpg,4\n", "no class '4'"),
        ("a.csv", "file,x1,y1,x2,y2,class\na.jpg,5,0,1,9,dog\n", "x1 < x2"),
        ("a.csv", "file,x1,y1,x2,y2,class\na.jpg,one,0,1,9,dog\n", "not four numbers"),
        ("a.csv", "file,label\n", "has no picture"),
        ("a.json", '{"images": []}', "not COCO's JSON"),
        ("a.json", "[]", "not COCO's JSON"),
        ("b.csv", None, "cannot be read"),
    ],
)
def test_what_is_refused(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        read_pictures(tmp_path / name, LABELS)


def test_a_subset_reaches_from_the_first_to_the_last():
    samples = [LabelledPicture(Path(str(number))) for number in range(10)]
    assert [int(one.file.name) for one in evenly_chosen(samples, 4)] == [0, 2, 5, 7]
    assert evenly_chosen(samples, 10) == samples


def test_the_checksum_is_that_of_the_shell_and_knows_no_names(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg")
    script = "sha256sum a.jpg b.jpg | cut -c1-64 | sort | sha256sum | cut -c1-64"
    said = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    before = pictures_checksum([tmp_path / "b.jpg", tmp_path / "a.jpg"])
    assert before == said.stdout.strip()
    (tmp_path / "a.jpg").rename(tmp_path / "c.jpg")
    assert pictures_checksum([tmp_path / "c.jpg", tmp_path / "b.jpg"]) == before
    (tmp_path / "b.jpg").write_bytes(b"other")
    assert pictures_checksum([tmp_path / "c.jpg", tmp_path / "b.jpg"]) != before
