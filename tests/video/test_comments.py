"""Comments: JSON and JSON Lines, and each thing that is wrong with one is named."""

from __future__ import annotations

import json

import pytest

from cpuserve.errors import UsageError
from cpuserve.video.comments import Comment, read_comments

TWO = [{"time": 2, "text": "later", "colour": "#f80"}, {"time": 0.5, "text": "<b>你好</b>", "mode": "top"}]
READ = [Comment(0.5, "<b>你好</b>", "#ffffff", "top"), Comment(2.0, "later", "#f80", "rtl")]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(TWO),
        json.dumps(TWO, indent=2),
        "\n".join(json.dumps(one) for one in TWO),
        "\ufeff" + "\r\n\r\n".join(json.dumps(one, ensure_ascii=False) for one in TWO) + "\r\n",
    ],
)
def test_both_forms_are_read_and_sorted(tmp_path, content):
    file = tmp_path / "comments"
    file.write_bytes(content.encode())
    assert read_comments(file) == READ


def test_no_comments_are_none(tmp_path):
    for content in ("", "[]", "\n\n"):
        (tmp_path / "comments").write_text(content)
        assert read_comments(tmp_path / "comments") == []


def test_color_is_colour(tmp_path):
    (tmp_path / "comments").write_text('{"time": 0, "text": "a", "color": "red"}')
    assert read_comments(tmp_path / "comments")[0].colour == "red"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('{"time": 1}', "a comment is such as"),
        ("7", "a comment is such as"),
        ("{", "is not JSON"),
        ('{"time": -1, "text": "a"}', "time is a number of seconds"),
        ('{"time": "1", "text": "a"}', "time is a number of seconds"),
        ('{"time": true, "text": "a"}', "time is a number of seconds"),
        ('{"time": 1, "text": " "}', "1 to 500 characters"),
        ('{"time": 1, "text": 5}', "1 to 500 characters"),
        (json.dumps({"time": 1, "text": "a" * 501}), "1 to 500 characters"),
        ('{"time": 1, "text": "a", "colour": "red; background: url(x)"}', "colour is such as"),
        ('{"time": 1, "text": "a", "colour": "#12345"}', "colour is such as"),
        ('{"time": 1, "text": "a", "mode": "up"}', "mode is one of rtl, ltr, top, bottom"),
        ('{"time": 1, "text": "a", "size": 5}', "a comment has no 'size'"),
    ],
)
def test_what_is_no_comment_is_named_by_its_line(tmp_path, entry, said):
    file = tmp_path / "comments.jsonl"
    file.write_text('{"time": 0, "text": "fine"}\n\n' + entry)
    with pytest.raises(UsageError, match=r"comments\.jsonl, line 3") as raised:
        read_comments(file)
    assert said in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json cannot be read: No such file"):
        read_comments(tmp_path / "none.json")
