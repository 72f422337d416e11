import json
import logging
import logging.config
import subprocess
import sys
from pathlib import Path

from cpuserve.web.log import JsonFormatter, logging_config

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
        logging.config.DictConfigurator(logging_config("info", style))


def start(*words):
    """What a server writes until it fails to listen on a port that is taken by nobody's leave."""
    command = [sys.executable, "-m", "cpuserve", "serve", "--port", "1", "--host", "256.0.0.1", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60).stderr


def test_serve_logs_json_or_little():
    lines = [json.loads(line) for line in start("--json").splitlines() if line.startswith("{")]
    assert any("seat 0" in line["message"] for line in lines)
    assert "seat 0" not in start("--quiet")
    assert "INFO" in start()
