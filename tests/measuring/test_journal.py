"""A journal keeps what was written whole, wherever its writer was killed."""

from __future__ import annotations

import pytest

from cpuserve.errors import UsageError
from cpuserve.measuring.journal import Journal


def test_lines_come_back_in_order(tmp_path):
    journal = Journal(tmp_path / "figures.jsonl")
    assert journal.read() == []
    journal.append({"a": 1})
    journal.append({"b": [2.5, None]})
    assert Journal(journal.file).read() == [{"a": 1}, {"b": [2.5, None]}]


@pytest.mark.parametrize("kept", range(len('{"b": 2}\n') + 1))
def test_a_torn_line_is_not_done_and_what_follows_is_kept(tmp_path, kept):
    journal = Journal(tmp_path / "figures.jsonl")
    journal.append({"a": 1})
    with journal.file.open("ab") as stream:
        stream.write(b'{"b": 2}\n'[:kept])
    journal.append({"c": 3})
    whole = [{"b": 2}] if kept >= len('{"b": 2}') else []
    assert journal.read() == [{"a": 1}, *whole, {"c": 3}]


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "figures.jsonl"
    file.write_text("[1, 2]\n")
    with pytest.raises(UsageError, match=r"line 1: '\[1, 2\]' is no object"):
        Journal(file).read()
