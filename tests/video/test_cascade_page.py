"""The page shows the promise, the counts and the thresholds, whatever was found, and loads nothing."""

import dataclasses
import re

import numpy as np
import pytest

from cpuserve.video.cascade_charts import ScoreGroup, score_histogram, share_bars
from cpuserve.video.cascade_choice import Choice, PacketRule
from cpuserve.video.cascade_page import cascade_page, choice_words
from cpuserve.video.chosen_cascade import choose_cascade
from cpuserve.video.guarantee import Budgets
from tests.browser import browser_or_skip, browsing
from tests.video.made_scores import made_table, run_lengths


@pytest.fixture(scope="module")
def promised():
    label = run_lengths(np.random.default_rng(0), 100_000, mean=60)
    table = dataclasses.replace(
        made_table(label=label, noise=0.05, change=6.0),
        query="<car>@0,0.6,1,1",
        notes=("Packets say <nothing>.",),
    )
    chosen = choose_cascade(table, Budgets(0.1, 0.1))
    return chosen, cascade_page(table, chosen)


def elements(drawing, tag):
    """The attributes of each element of a drawing."""
    found = re.findall(rf"<{tag} ([^>]*?)/?>", str(drawing.__html__()))
    return [dict(re.findall(r'(\S+)="([^"]*)"', text)) for text in found]


def test_the_page_shows_promise_bounds_and_counts(promised):
    chosen, page = promised
    assert chosen.promise.promised
    assert chosen.promise.words[0] in page
    for bound in (chosen.promise.fn, chosen.promise.fp):
        assert (
            f"{bound.wrong} of {bound.windows} windows, in {bound.wrong_events} of {bound.events} events"
            in page
        )
        assert f"at most {bound.bound:.2%}" in page
    counts = chosen.promise.counts["test"]
    for figure in (counts.changes, counts.positive_windows, counts.negative_events):
        assert f'<td class="n">{figure}</td>' in page
    assert f"{chosen.speed_up:.1f}<small>x" in page
    assert choice_words(chosen.choice) in page
    assert ">chosen</text>" in page
    assert ">reference on every frame</text>" in page


def test_names_are_escaped_and_nothing_is_loaded(promised):
    _, page = promised
    assert "&lt;car&gt;@0,0.6,1,1" in page
    assert "Packets say &lt;nothing&gt;." in page
    assert "<car>" not in page
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_a_refusal_says_how_much_more_and_warns():
    table = made_table(6000, noise=0.05, change=6.0)
    chosen = choose_cascade(table, Budgets(0.01, 0.01))
    page = cascade_page(table, chosen)
    assert "Nothing is promised" in page
    assert re.search(r"Label \d+ more minutes of such video", page)
    assert "events with the object were seen for the proof" in page
    assert "too little was labelled" in page


def test_a_page_without_any_cascade_and_without_any_object():
    table = made_table(label=np.zeros(6000, bool))
    page = cascade_page(table, choose_cascade(table, Budgets(0.01, 0.01)))
    assert "No window with the object was seen" in page
    noisy = made_table(6000)
    useless = dataclasses.replace(
        noisy, specialised={}, differences={}, packets=None, disposable=noisy.key & False
    )
    costs = {name: noisy.costs[name] for name in ("decode:all", "decode:nonref", "scale", "reference")}
    costs["decode:nonref"] = costs["decode:all"]
    flicker = np.random.default_rng(0).random(6000) < 0.97
    useless = dataclasses.replace(useless, costs=costs, label=flicker)
    chosen = choose_cascade(useless, Budgets(0.001, 0.001))
    assert chosen.choice.decides_nothing
    page = cascade_page(useless, chosen)
    assert "the reference answers every frame" in page
    assert "the reference on every frame" in page


def test_thresholds_are_drawn_where_they_are():
    scores = np.linspace(0.5, 1, 50, dtype=np.float32)
    groups = [ScoreGroup("s3", scores), ScoreGroup("s0", np.zeros(9, np.float32))]
    drawing = score_histogram(groups, [0.25, 0.75, 0.25], "scores")
    levels = [float(line["x1"]) for line in elements(drawing, "line") if line["class"] == "level"]
    assert levels == pytest.approx([54 + 100, 54 + 300], abs=0.1)
    assert sum("s0" in rect["class"] for rect in elements(drawing, "rect")) == 1
    empty = score_histogram([ScoreGroup("s0", np.zeros(0, np.float32))], [0.5], "none")
    assert elements(empty, "rect") == []


def test_bars_are_as_wide_as_their_shares():
    drawing = share_bars([("chosen", (0.25, 0.0, 0.75))], "abc", ("s0", "s1", "s2"))
    assert [float(rect["width"]) for rect in elements(drawing, "rect")] == [115, 345]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(), "the reference on every frame"),
        (Choice(every=5, which="nonkey"), "1 of 5 frames, keyframes alone"),
        (
            Choice(
                packets=PacketRule(0.1, 0.9),
                detector="global:10",
                delta=2.5,
                cnn="c8",
                c_low=0.01,
                c_high=0.5,
            ),
            "packets below 0.1 no, above 0.9 yes, global:10 below 2.5 no change, "
            "CNN c8 below 0.01 no, above 0.5 yes",
        ),
    ],
)
def test_a_choice_in_words(choice, words):
    assert choice_words(choice) == words


@pytest.mark.parametrize("width", [390, 1200])
def test_no_figure_is_wider_than_its_tile(tmp_path, width):
    table = made_table(label=np.zeros(9000, bool))
    page = tmp_path / "report.html"
    page.write_text(cascade_page(table, choose_cascade(table, Budgets(0.05, 0.05))))
    assert "100.00<small>%" in page.read_text()
    with browsing(browser_or_skip(), tmp_path) as browser:
        browser.open(page.as_uri(), width, 900)
        wide = "[...document.querySelectorAll('.tile')].map(one => one.scrollWidth - one.clientWidth)"
        assert max(browser.run(wide)) == 0
        assert browser.run("document.documentElement.scrollWidth") <= width
