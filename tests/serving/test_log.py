import json
import logging
import logging.config
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from cpuserve.serving.log import JsonFormatter, LogSwitches, TextFormatter, logging_config
from tests.servers import serving

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_json_line_holds_message_level_and_exception():
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.LogRecord("cpuserve.x", logging.ERROR, "f", 1, "%s é", ("bad",), sys.exc_info())
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "cpuserve.x", "bad é")
    assert "ValueError: no" in line["exception"]


def test_both_styles_are_accepted_by_logging():
    for style in ("text", "json"):
        logging.config.DictConfigurator(logging_config(LogSwitches("info"), style))


def record(level):
    return logging.LogRecord("cpuserve.x", level, "f", 1, "words", (), None)


def test_switches_say_what_is_written():
    switches = LogSwitches("warning")
    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
    assert [switches.filter(record(level)) for level in levels] == [False, False, True, True]
    switches.change({"log_verbose_level": 1, "log_info": True, "log_warning": False, "log_error": False})
    assert [switches.filter(record(level)) for level in levels] == [True, True, False, False]
    text = TextFormatter(switches)
    assert " " in text.format(record(logging.INFO)).split(" INFO")[0]
    switches.change({"log_format": "ISO8601"})
    assert "T" in text.format(record(logging.INFO)).split(" INFO")[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"log_file": "/tmp/x"}, "stderr"),  # noqa: S108
        ({"log_info": 1}, "true or false"),
        ({"log_verbose_level": -1}, "0 to 255"),
        ({"log_verbose_level": True}, "0 to 255"),
        ({"log_format": "xml"}, "ISO8601"),
        ({"log_level": 1}, "no log setting"),
    ],
)
def test_a_wrong_setting_changes_nothing(settings, words):
    switches = LogSwitches("info")
    before = switches.read()
    with pytest.raises(ValueError, match=words):
        switches.change({"log_warning": False, **settings})
    assert switches.read() == before


def logged(place, word):
    """What a server writes until it answers and is told to end."""
    with serving(place / word, word, "--workers", "1", ready=0) as server:
        server.wait_until(lambda: answers(server), "an answer")
    return server.text()


def answers(server):
    try:
        return server.get("/v2/health/ready").status == 200
    except OSError:
        return False


def test_serve_logs_json_or_little(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        words = ("--json", "--quiet", "--log-level=info")
        as_json, quiet, text = pool.map(lambda word: logged(tmp_path, word), words)
    lines = [json.loads(line) for line in as_json.splitlines() if line.startswith("{")]
    assert any("seat 0" in line["message"] for line in lines)
    assert all(datetime.fromisoformat(line["time"]).utcoffset() is not None for line in lines)
    assert "seat 0" not in quiet
    assert "INFO" in text
