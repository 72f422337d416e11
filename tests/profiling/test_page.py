"""The page is one whole file that asks nobody for anything, and shows what the recording has."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from cpuserve.profiling.page import write_page
from cpuserve.profiling.recording import LayerTime
from tests.profiling.made import QUIET, made, stacks
from tests.profiling.test_findings import BIG

VOID = {"meta", "br"}


class Whole(HTMLParser):
    """Collects text and checks that what is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        self.text.append(data)


def page(recording, folder):
    html = write_page(recording, folder).read_text(encoding="utf-8")
    read = Whole()
    read.feed(html)
    assert not read.open
    return html, " ".join("".join(read.text).split()), read.links


def test_one_file_that_loads_nothing(tmp_path):
    html, _, links = page(made(stages=BIG, workers=1, threads=1), tmp_path / "new")
    assert links == []
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|<link|<img|<iframe", html)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["index.html"]
    assert len(html) < 500_000


def test_findings_come_first_with_setting_and_factor(tmp_path):
    _, text, _ = page(made(stages=BIG, workers=1, threads=1), tmp_path)
    assert (
        text.index("Findings")
        < text.index("Where the latency goes")
        < text.index("Threads, busy and waiting")
    )
    assert "Decode is the bottleneck" in text
    assert "threads Raise threads from 1 to 2 a worker." in text
    assert "1.9x" in text
    assert "Nothing stands out" in page(made(), tmp_path)[1]


def test_stages_are_summed_and_gaps_are_shown(tmp_path):
    _, text, _ = page(made(stages={**QUIET, "queue": 2.2}, load={"mean_ms": 12.0}), tmp_path)
    assert "The stages sum to 83.3% of what was measured" in text
    assert "in no stage" in text
    assert "2.00 ms \xb7 16.7%" in text
    assert "between the client and the server" in text.partition("What is missing")[2]
    _, text, _ = page(made(), tmp_path)
    assert "in no stage" not in text
    assert "every observer saw what it looks at" in text


def test_what_could_not_be_seen_is_said(tmp_path):
    line = "py-spy may not look: add cap_add: [SYS_PTRACE]"
    _, text, _ = page(made(stacks=None, layers=[], missing=[line]), tmp_path)
    assert line in text
    assert "Flame graph" not in text
    assert "Hottest layers" not in text


def test_each_thread_has_its_row(tmp_path):
    html, text, _ = page(made(threads=2, engine_threads=1, spin=0.3), tmp_path)
    assert html.count('class="t-busy" d=') == 6
    for tid in (1000, 1001, 1005, 1010, 1011, 1015):
        assert str(tid) in text


def test_names_from_outside_are_text(tmp_path):
    evil = "<script>alert(1)</script>"
    recording = replace(
        made(stacks=stacks({f"{evil} (a.py:1)": 5}), missing=[evil], settings={"model_name": evil}),
        model=evil,
        machine=evil,
        layers=[LayerTime(evil, evil, evil, evil, 1, 3.0, 1)],
    )
    html, text, _ = page(recording, tmp_path)
    assert evil not in html
    assert text.count(evil) > 5


@pytest.mark.parametrize(
    "fields", [{"requests": [], "batches": []}, {"threads": []}, {"placement": {}, "settings": {}}]
)
def test_a_page_is_written_of_what_there_is(tmp_path, fields):
    _, text, _ = page(replace(made(), **fields), tmp_path)
    assert "What is missing" in text


def test_the_flame_graph_merges_lines_of_a_function(tmp_path):
    html, _, _ = page(made(), tmp_path)
    assert html.count("tail (tails.py): 27 samples, 25.2%") == 1
    assert "_turn" not in html
