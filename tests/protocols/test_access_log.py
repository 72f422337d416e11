"""Lines of the access log, as text and as JSON."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import pytest

from cpuserve.errors import UsageError
from cpuserve.protocols.access_log import AccessLog
from cpuserve.protocols.call import Call


def line(tmp_path, style, target="/predictions/digits?topk=1"):
    file = tmp_path / "access.log"
    call = Call("POST", "/predictions/digits", address="203.0.113.9")
    call.arrived_ns = time.perf_counter_ns() - 3_000_000
    AccessLog(str(file), style).write(call, target, 200, 273)
    return file.read_text()


def test_a_line_of_text_is_what_log_readers_know(tmp_path):
    found = re.fullmatch(
        r'203\.0\.113\.9 - - \[(.+)\] "POST /predictions/digits\?topk=1" 200 273 ([0-9.]+)\n',
        line(tmp_path, "text"),
    )
    assert abs(datetime.strptime(found[1], "%d/%b/%Y:%H:%M:%S %z").timestamp() - time.time()) < 60
    assert float(found[2]) >= 3


def test_a_full_disk_costs_lines_and_no_request(tmp_path, caplog):
    """As on a device that is full, and for JSON as for text."""
    call = Call("POST", "/predictions/digits", address="203.0.113.9")
    log = AccessLog("/dev/full", "text")
    for _ in range(3):
        log.write(call, "/x", 200, 1)
    (said,) = caplog.messages
    assert said == "access_log /dev/full cannot be written, lines are lost: No space left on device"
    log._place = str(tmp_path / "access.log")
    log.reopen()
    log.write(call, "/x", 200, 1)
    assert caplog.messages[1:] == [f"access_log {log._place} is written again; 3 lines were lost"]
    assert '"POST /x" 200 1' in (tmp_path / "access.log").read_text()
    log.write(call, "/x", 200, 1)
    assert len(caplog.messages) == 2


def test_what_a_client_sends_cannot_forge_a_line(tmp_path):
    said = line(tmp_path, "text", '/x" 200 1\n203.0.113.1 - - \x1b[31m\\')
    assert said.count("\n") == 1
    assert '"POST /x\\x22 200 1\\x0a203.0.113.1 - - \\x1b[31m\\x5c"' in said


def test_json_has_the_zone_of_its_time(tmp_path):
    found = json.loads(line(tmp_path, "json"))
    assert datetime.fromisoformat(found.pop("time")).utcoffset() is not None
    assert found.pop("ms") >= 3
    assert found == {
        "client": "203.0.113.9",
        "method": "POST",
        "target": "/predictions/digits?topk=1",
        "status": 200,
        "bytes": 273,
    }


def test_a_rotated_file_is_written_anew(tmp_path):
    file = tmp_path / "access.log"
    log = AccessLog(str(file), "text")
    file.rename(tmp_path / "access.log.1")
    log.reopen()
    log.write(Call("GET", "/"), "/", 200, 0)
    assert file.read_text().startswith("- - - [")
    assert (tmp_path / "access.log.1").read_text() == ""


def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"access_log .*nowhere/x cannot be written: No such file"):
        AccessLog(str(tmp_path / "nowhere" / "x"), "text")
