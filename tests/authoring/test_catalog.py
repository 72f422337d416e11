"""The catalogue: every entry is pinned, complete and findable, and means the files of the mirror."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from cpuserve.authoring.catalog import CatalogEntry, CatalogFile, entries, find, label_names
from cpuserve.errors import UnknownCatalogEntry

NAMES = sorted(entries())
SOURCES = {
    source.file: source
    for entry in entries().values()
    for source in (entry.source, entry.labels)
    if isinstance(source, CatalogFile)
}


@pytest.mark.parametrize("file", sorted(SOURCES))
def test_a_source_is_pinned_or_says_why_not(file: str):
    source = SOURCES[file]
    assert bool(source.url) != bool(source.mirror_only)
    if source.url:
        assert re.fullmatch(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/.+", source.url)
    assert re.fullmatch(r"[0-9a-f]{64}", source.sha256)
    assert source.licence


@pytest.mark.parametrize("file", sorted(SOURCES))
def test_a_source_is_the_file_of_the_mirror(file: str, data_dir: Path):
    content = (data_dir / "models" / file).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (SOURCES[file].bytes, SOURCES[file].sha256)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_complete(name: str):
    entry = find(name)
    assert Path(entry.source.file).stem == name
    assert entry.card.model_type in ("Classification", "Segmentation")
    assert entry.card.description
    assert entry.card.licence == entry.source.licence
    assert entry.card.reverse_input_channels
    assert len(entry.input_shape) == 4
    if isinstance(entry.labels, tuple):
        assert len(set(entry.labels)) == len(entry.labels)


def test_no_name_means_two_entries():
    said = [name for entry in entries().values() for name in (entry.name, *entry.aliases)]
    assert len(set(said)) == len(said)


def test_an_alias_finds_the_entry():
    assert find("mobilenet_v2").name == "mobilenet_v2_1.0_224_quant"
    assert isinstance(find("mobilenet_v2"), CatalogEntry)


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownCatalogEntry, match=r"'mobilnet_v2'; did you mean mobilenet_v2"):
        find("mobilnet_v2")
    with pytest.raises(UnknownCatalogEntry, match="pull --list"):
        find("qqqq")


def test_of_several_names_of_a_class_the_first_is_kept():
    assert label_names("background\ntench, Tinca tinca\r\nhot dog\n") == ("background", "tench", "hot dog")


def test_imagenet_has_1001_names(data_dir: Path):
    names = label_names((data_dir / "models" / "imagenet_labels_1001.txt").read_text())
    assert len(names) == 1001
    assert (names[0], names[286], names[1000]) == ("background", "Egyptian cat", "toilet tissue")
