"""Tables as people and programs read them, and two machines side by side."""

from __future__ import annotations

import csv
import io

import pytest

from cpuserve.bench.networks import NetworkRow
from cpuserve.bench.networks_table import (
    SavedTable,
    compare,
    comparison_csv,
    comparison_markdown,
    csv_text,
    markdown,
)
from cpuserve.errors import UsageError

NO_BF16 = "this CPU has no bf16: OpenVINO computes in f32"
ROWS = [
    NetworkRow("mobilenet", "f32", 1, 12.5, 0.25, (12.25, 12.75), 240, 150, 0.5687, 0.1),
    NetworkRow("mobilenet", "f32", 128, 10.0, 0.5, (9.5, 10.5), 800, 700, 0.5687, 0.3),
    NetworkRow("vgg16", "f32", 1, 600, 30, (570, 630), 1280, 1200, 15.47, 0.2),
    NetworkRow("vgg16", "f32", 128, skipped="needs about 5000 MiB, --memory-limit is 2000 MiB"),
    *(
        NetworkRow(name, "bf16", batch, skipped=NO_BF16)
        for name in ("mobilenet", "vgg16")
        for batch in (1, 128)
    ),
]


def test_markdown_has_batches_down_and_networks_across_and_says_why_some_are_missing():
    assert markdown(ROWS, "amd-epyc-2c", 5) == (
        "### f32, ms an image, mean of 5 passes ± standard deviation (amd-epyc-2c)\n\n"
        "| batch | mobilenet | vgg16 |\n| :---: | :---: | :---: |\n"
        "| 1 | 12.5 ± 0.25 | 600 ± 30 |\n| 128 | 10 ± 0.5 | x |\n\n"
        "- meanwhile other processes used 0.10 to 0.30 cores\n"
        "- x: vgg16, batch 128: needs about 5000 MiB, --memory-limit is 2000 MiB\n\n"
        "### bf16, ms an image, mean of 5 passes ± standard deviation (amd-epyc-2c)\n\n"
        f"- x: all: {NO_BF16}\n"
    )


def test_the_same_reason_for_every_network_is_said_once():
    rows = [
        *ROWS[:1],
        ROWS[2],
        *(NetworkRow(name, "f32", 2, skipped="no") for name in ("mobilenet", "vgg16")),
    ]
    assert "- x: batch 2: no\n" in markdown(rows, "amd", 5)


def test_csv_has_a_line_a_figure_and_reads_back(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text(csv_text(ROWS, "amd-epyc-2c"))
    lines = list(csv.DictReader(io.StringIO(file.read_text())))
    assert len(lines) == len(ROWS)
    assert float(lines[0]["gmacs_per_s"]) == pytest.approx(0.5687 / 0.0125, abs=0.01)
    assert lines[3]["ms_per_image"] == ""
    assert lines[3]["skipped"].startswith("needs about")
    assert SavedTable.read(file) == SavedTable(
        "amd-epyc-2c", {row.cell: row.ms_per_image for row in ROWS if row.ms_per_image is not None}
    )


def test_two_machines_stand_beside_each_other_with_the_ratio():
    other = SavedTable("raspberry", {("mobilenet", "f32", 1): 1246.0, ("mobilenet", "f32", 2): 1230.0})
    found = compare(ROWS, other)
    assert [one.cell for one in found] == [("mobilenet", "f32", 1)]
    assert found[0].ratio == pytest.approx(99.68)
    assert comparison_markdown(found, "here", other.name).splitlines()[0] == (
        "| network | precision | batch | here, ms | raspberry, ms | times as fast |"
    )
    assert comparison_markdown(found, "here", other.name).splitlines()[2] == (
        "| mobilenet | f32 | 1 | 12.5 | 1.25e+03 | 99.68 |"
    )
    assert comparison_csv(found, "here", other.name) == (
        "network,precision,batch,here,raspberry,ratio\nmobilenet,f32,1,12.5000,1246.0000,99.6800\n"
    )


def test_a_table_without_a_machine_is_called_after_its_file(tmp_path):
    file = tmp_path / "jetson.csv"
    file.write_text("network,precision,batch,ms_per_image\nvgg16,f32,1,133\n")
    assert SavedTable.read(file) == SavedTable("jetson", {("vgg16", "f32", 1): 133.0})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"network,batch,ms\nvgg16,1,133\n", "no column precision, ms_per_image; --out DIR writes such a"),
        (b"", "no column network"),
        (b"network,precision,batch,ms_per_image\nvgg16,f32,1,fast\n", "line 2: could not convert string"),
        (b"network,precision,batch,ms_per_image\nvgg16,f32,one,5\n", "line 2: invalid literal"),
        (b"network,precision,batch,ms_per_image\nvgg16,f32,1,0\n", r"line 2: 0\.0 ms is not more than 0"),
        (b"network,precision,batch,ms_per_image\nvgg16,f32,1,nan\n", "line 2: nan ms is not more than 0"),
        (b"network,precision,batch,ms_per_image\nvgg16,f32,1,\n", "it has no figures"),
        (b"\xff\xfe\x00table", "codec can't decode"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, message):
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        SavedTable.read(file)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        SavedTable.read(tmp_path / "table.csv")
