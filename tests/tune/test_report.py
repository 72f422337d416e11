"""The report on made trials: conclusion, page and JSON, and files that are no search."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from cpuserve.errors import UsageError
from cpuserve.tune.conclusion import conclude
from cpuserve.tune.objective import Objective
from cpuserve.tune.page import page
from cpuserve.tune.report import SearchReport, report_of
from cpuserve.tune.trial_journal import TrialJournal
from tests.tune.made_trials import figures, trials

MAPPED = {"openmp": [], "tbb": True}
VERDICT = {
    "process": "PyTorch <head>",
    "environment": "KMP_AFFINITY=compact",
    "words": "harmful",
    "why": "1 CPU",
}
KEY = {"fingerprint": "some-machine", "machine": {"cores": 2}, "objective": "throughput", "constraints": []}


def searched():
    return trials(
        ({}, figures(100, 20, facts=MAPPED), "default"),
        ({"workers": 1, "streams": 2}, figures(90, 30), "hint:THROUGHPUT"),
        ({"workers": 1, "streams": 1}, figures(80, 10), "hint:LATENCY"),
        ({"max_batch": 1}, figures(98, 15)),
        ({"max_batch": 32}, figures(70, 60, stable=False)),
        ({"threads": 2}, figures(120, 22, foreign_cores=0.6)),
        ({"threads": 2, "max_batch": 16}, figures(121, 40)),
        ({"workers": 4}, "4 workers & more <do> not fit"),
        ({}, figures(101, 20), "default-again"),
    )


def reported(made=None, constraints=(), openmp=()):
    objective = Objective.parse("throughput", constraints)
    not_tried = {"scheduling_core_type": "all cores are alike", "env.OMP_NUM_THREADS": "it is not there"}
    given = searched() if made is None else made
    return SearchReport.of("net", "zen", objective, given, cores=2, not_tried=not_tried, openmp=openmp)


def test_the_conclusion_says_what_was_chosen_against_what_and_how_sure_it_is():
    said = conclude(reported())
    assert said[0].startswith("Chosen: threads=2 (120 images/s, p99 22 ms")  # a tie: fewer settings win
    text = "\n".join(said)
    assert "Against the defaults: +19.4 % images/s, beyond the noise of" in text
    assert "Against OpenVINO's hint THROUGHPUT: +33.3 % images/s, beyond" in text
    assert "What helps images/s most: threads=2 (+18.8 %)" in text
    assert "What only harms: max_batch=32" in text
    assert "OMP_NUM_THREADS: no effect, TBB build." in text
    assert "Not tried: scheduling_core_type (all cores are alike)" in text
    assert "the defaults the figure moved by +1.0 %." in text
    assert "1 of 8 trials did not settle" in text
    assert "Other programs used up to 0.6 cores" in text
    assert "1 of 9 trials failed, the first with: 4 workers & more" in text


def test_a_tie_with_the_defaults_is_said_to_be_one():
    said = conclude(
        reported(trials(({}, figures(100, noise=0.1)), ({"threads": 2}, figures(101, noise=0.1))))
    )
    assert said[0].startswith("Chosen: the defaults; nothing that was tried beats them")
    assert "The defaults were measured once only" in said[-1]


def test_a_constraint_that_is_kept_or_cannot_be():
    kept = conclude(reported(constraints=["p99_ms<=25"]))
    assert kept[0].startswith("Chosen: threads=2 ")
    assert kept[1] == "It keeps p99_ms<=25."
    broken = conclude(reported(constraints=["p99_ms<=5"]))
    assert broken[1] == "No trial keeps p99_ms<=5: this one breaks it least, by 100 %."


def test_much_drift_asks_for_a_quiet_machine():
    made = trials(({}, figures(100)), ({"threads": 2}, figures(105)), ({}, figures(70)))
    assert "moved by -30.0 %: tune again when the machine is quiet." in "\n".join(conclude(reported(made)))


def test_nothing_worked():
    report = reported(trials(({}, "no model"), ({"threads": 2}, "no model")))
    assert conclude(report)[0] == "Nothing was chosen: all 2 trials failed, the first with: no model."
    assert "Nothing was chosen" in page(report, conclude(report))


def test_a_hint_that_chooses_the_same():
    made = trials(({}, figures(50)), ({"streams": 1}, figures(100), "hint:LATENCY"))
    assert "OpenVINO's hint LATENCY chooses the same settings." in conclude(reported(made))


class Tags(HTMLParser):
    VOID = ("meta",)

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "xlink:href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_escaped_and_asks_nobody():
    report = reported(openmp=[VERDICT])
    text = page(report, conclude(report))
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.links == []
    assert not re.search(r"url\(|@import|<script|https?:", text)
    assert tags.seen.count("svg") == 4  # the front, batch twice, the knobs; no curve over cores
    assert "prefers-color-scheme: dark" in text
    assert "4 workers &amp; more &lt;do&gt; not fit" in text
    assert "PyTorch &lt;head&gt;" in text


def test_a_model_may_be_called_anything():
    report = replace(reported(), model="<script>alert(1)</script>")
    text = page(report, conclude(report))
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2  # title and heading


def test_plots_have_every_trial_and_the_front():
    report = reported()
    assert report.front == (2, 3, 8, 5, 6)
    text = page(report, [])
    assert text.count('<circle class="dot') == 8 + 2 * len(report.batches.spots)
    assert text.count("<polyline") == 3


def test_the_bars_of_the_knobs_are_the_rows_of_their_table():
    report = reported()
    rows = [
        (one.knob, value) for one in report.effects for value in one.values if value.change == value.change
    ]
    text = page(report, [])
    assert len(rows) > len(report.effects) / 2
    for knob, value in rows:
        assert f"{knob.removeprefix('env.')}={value.value}" in text
        assert f"{100 * value.change:+.1f} %" in text


def test_the_document_is_json_without_nan():
    report = reported(openmp=[VERDICT])
    document = json.loads(json.dumps(report.document(conclude(report)), allow_nan=False))
    assert document["best"]["settings"] == {"threads": 2}
    assert document["rivals"][0]["name"] == "the defaults"
    assert document["drift"] == pytest.approx(0.01)
    by_knob = {one["knob"]: one for one in document["effects"]}
    assert by_knob["env.OMP_NUM_THREADS"]["verdict"] == "no effect, TBB build"
    assert len(document["trials"]) == 9


def recorded(folder, key=KEY, made=None):
    journal = TrialJournal(folder / "net.trials.jsonl", key)
    for trial in searched() if made is None else made:
        journal.append(trial)
    journal.describe({"values": {"threads": [1], "allocator": ["none"]}, "not_tried": {"streams": "so"}})
    return journal.file


def test_a_search_is_read_from_its_file(tmp_path):
    report = report_of(recorded(tmp_path), "net")
    assert report.machine == "some-machine"
    words = {one.knob: one.words for one in report.effects}
    assert words["allocator"] == "not tried (the search did not come to it)"
    assert words["threads"].startswith("helps")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: folder / "none.trials.jsonl", "run cpuserve tune net"),
        (lambda folder: recorded(folder, made=[]), "no trials of net"),
        (lambda folder: recorded(folder, {"fingerprint": "x"}), "does not say what its trials belong to"),
        (lambda folder: recorded(folder, KEY | {"objective": "fame"}), "objective 'fame'"),
    ],
)
def test_files_that_are_no_search(tmp_path, write, message):
    with pytest.raises(UsageError, match=message):
        report_of(write(tmp_path), "net")
