"""What was observed of runs is kept beside their cascade, and stands in its report beside the promise."""

import re
from dataclasses import replace

import pytest

from cpuserve.errors import UsageError
from cpuserve.video.audit_bound import AuditedRate, AuditState
from cpuserve.video.cascade_page import cascade_page
from cpuserve.video.chosen_cascade import choose_cascade
from cpuserve.video.guarantee import Budgets
from cpuserve.video.observed_run import ObservedRun
from cpuserve.video.run_history import keep_observed, read_observed
from tests.video.made_cascade import PROMISE
from tests.video.made_scores import made_table

RUN = ObservedRun(
    time="2026-03-01T10:00:00+00:00",
    labels="day2.csv.run.json",
    videos=("day<2>.mp4", "b.mp4", "c.mp4", "d.mp4"),
    frames=12_345,
    positive=345,
    fps=123.4,
    shares={"skipped": 0.8, "packets": 0.0, "difference": 0.1, "specialised": 0.06, "reference": 0.04},
    audited=150,
    dropped=0,
    state=AuditState.BROKEN,
    fn=AuditedRate(0.011, 0.034, 0.092, 4, 80),
    fp=AuditedRate(0.0, None, 1.0, 0, 0),
    alarms=("frame 77: fn is broken; nothing was changed",),
)


@pytest.fixture(scope="module")
def report():
    table = made_table(6000)
    return cascade_page(table, choose_cascade(table, Budgets(0.05, 0.05)))


def test_the_report_shows_the_promise_beside_the_observed(tmp_path, report):
    (tmp_path / "report.html").write_text(report)
    assert "What was observed" not in report
    keep_observed(tmp_path, PROMISE, RUN)
    text = (tmp_path / "report.html").read_text()
    assert text.index("What is promised") < text.index("What was observed") < text.index("Cost and accuracy")
    for words in (
        "at most 0.93% of windows missed, 1.82% falsely reported",
        "Missed (FN): 3.40% of frames, 1.10% to 9.20%",
        "4 wrong of 80 checked; promised (dashed): at most 0.93% of windows",
        "Falsely reported (FP): nothing checked yet, 0.00% to 100.00%",
        "day&lt;2&gt;.mp4, b.mp4, c.mp4 and 1 more",
        "frame 77: fn is broken; nothing was changed",
    ):
        assert words in text
    assert '<tr class="bad"><td class="s">2026-03-01 10:00</td>' in text
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)


def test_runs_are_added_and_the_same_run_is_replaced(tmp_path, report):
    (tmp_path / "report.html").write_text(report)
    keep_observed(tmp_path, PROMISE, RUN)
    keep_observed(tmp_path, PROMISE, replace(RUN, labels="day3.csv.run.json", frames=77_777))
    keep_observed(tmp_path, PROMISE, replace(RUN, frames=88_888))
    assert [run.frames for run in read_observed(tmp_path)] == [88_888, 77_777]
    assert read_observed(tmp_path)[1] == replace(RUN, labels="day3.csv.run.json", frames=77_777)
    text = (tmp_path / "report.html").read_text()
    assert text.count("What was observed") == 1
    assert "12,345" not in text
    assert text.index("88,888") < text.index("77,777")
    for number in range(30):
        keep_observed(tmp_path, PROMISE, replace(RUN, labels=str(number)))
    assert [run.labels for run in read_observed(tmp_path)] == [str(number) for number in range(29, 9, -1)]


def test_a_report_from_before_and_none(tmp_path, report):
    old = re.sub("<!-- /?observed -->", "", report)
    (tmp_path / "report.html").write_text(old)
    keep_observed(tmp_path, PROMISE, RUN)
    keep_observed(tmp_path, PROMISE, RUN)
    assert (tmp_path / "report.html").read_text().count("What was observed") == 1
    (tmp_path / "report.html").unlink()
    keep_observed(tmp_path, PROMISE, RUN)
    assert not (tmp_path / "report.html").exists()


def test_no_promise_is_said(tmp_path, report):
    (tmp_path / "report.html").write_text(report)
    keep_observed(tmp_path, replace(PROMISE, promised=False), RUN)
    text = (tmp_path / "report.html").read_text()
    assert "Nothing is promised. The budgets are 1.00% missed and 2.00% falsely reported." in text
    assert "promised (dashed)" not in text


@pytest.mark.parametrize("content", [b"{", b"[1]", b'[{"state": "odd"}]', b'{"a": 1}'])
def test_a_file_that_is_something_else_is_named(tmp_path, content):
    (tmp_path / "observed.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"observed\.json is not what `cpuserve video run` wrote: remove it"):
        keep_observed(tmp_path, PROMISE, RUN)
    assert (tmp_path / "observed.json").read_bytes() == content


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be kept in .*/none: No such file or directory"):
        keep_observed(tmp_path / "none", PROMISE, RUN)
