"""The server's log: one line an event, as text or as JSON; it decides nothing about what is logged."""

from __future__ import annotations

import json
import logging
from typing import Any

__all__ = ["JsonFormatter", "logging_config"]

_TEXT = "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """``{"time", "level", "pid", "logger", "message"[, "exception"]}``."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}",
            "level": record.levelname,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def logging_config(level: str, style: str) -> dict[str, Any]:
    """The dictionary that configures Python's logging.

    Args:
        level: the least level that is written.
        style: ``text`` or ``json``.
    """
    formatters: dict[str, dict[str, Any]] = {"text": {"format": _TEXT}, "json": {"()": JsonFormatter}}
    loggers = ("gunicorn.error", "gunicorn.access", "cpuserve")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {style: formatters[style]},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": style}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            name: {"handlers": ["stderr"], "level": level.upper(), "propagate": False} for name in loggers
        },
    }
