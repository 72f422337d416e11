"""The server's log: one line an event, as text or JSON, filtered by switches that all workers share."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any

from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Bytes, Record

__all__ = ["JsonFormatter", "LogSwitches", "TextFormatter", "logging_config"]

_TEXT = "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"
_INFO, _WARNING, _ERROR, _VERBOSE, _ISO = range(5)
_ISO_TIME = "%Y-%m-%dT%H:%M:%S"


class _LogSwitchesRow(Record):
    values = Bytes(5)


class LogSwitches(logging.Filter):
    """Which records are written, in memory that all workers share; made before the fork.

    Args:
        level: the least severe level that is written at first.

    Attributes:
        iso8601: whether times in lines of text are ISO 8601.
    """

    def __init__(self, level: str) -> None:
        super().__init__()
        self._bytes = Block("cpuserve-log", 1, _LogSwitchesRow, Record).head.values
        least = logging.getLevelNamesMapping()[level.upper()]
        for place, of in ((_INFO, logging.INFO), (_WARNING, logging.WARNING), (_ERROR, logging.ERROR)):
            self._bytes[place] = least <= of
        self._bytes[_VERBOSE] = least <= logging.DEBUG

    @property
    def iso8601(self) -> bool:
        """Whether times in lines of text are ISO 8601."""
        return bool(self._bytes[_ISO])

    def verbose(self) -> bool:
        """Whether debug messages are written."""
        return bool(self._bytes[_VERBOSE])

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.levelno >= logging.ERROR:
            return bool(self._bytes[_ERROR])
        if record.levelno >= logging.WARNING:
            return bool(self._bytes[_WARNING])
        return bool(self._bytes[_INFO if record.levelno >= logging.INFO else _VERBOSE])

    def read(self) -> dict[str, Any]:
        """The switches by their names in V2's logging extension."""
        return {
            "log_file": "",
            "log_info": bool(self._bytes[_INFO]),
            "log_warning": bool(self._bytes[_WARNING]),
            "log_error": bool(self._bytes[_ERROR]),
            "log_verbose_level": self._bytes[_VERBOSE],
            "log_format": "ISO8601" if self.iso8601 else "default",
        }

    def change(self, settings: dict[str, Any]) -> None:
        """Set the switches given, for all workers at once; none of them if one is wrong.

        Raises:
            ValueError: an unknown name, or a value it cannot have.
        """
        found: dict[int, int] = {}
        for name, value in settings.items():
            match name, value:
                case "log_info" | "log_warning" | "log_error", bool():
                    place = {"log_info": _INFO, "log_warning": _WARNING, "log_error": _ERROR}[name]
                    found[place] = value
                case "log_verbose_level", int() if not isinstance(value, bool) and 0 <= value <= 255:
                    found[_VERBOSE] = value
                case "log_format", "default" | "ISO8601":
                    found[_ISO] = value == "ISO8601"
                case "log_file", "":
                    pass
                case "log_file", _:
                    raise ValueError('log_file can only be "": the server writes its log to stderr')
                case (("log_info" | "log_warning" | "log_error" | "log_verbose_level" | "log_format"), _):
                    raise ValueError(
                        f"{name} cannot be {value!r:.80}: log_info, log_warning and log_error are true or "
                        'false, log_verbose_level is 0 to 255, log_format is "default" or "ISO8601"'
                    )
                case _:
                    raise ValueError(f"{name[:80]!r} is no log setting; there are {', '.join(self.read())}")
        for place, number in found.items():
            self._bytes[place] = number


class TextFormatter(logging.Formatter):
    """Formats a record as one line of text.

    Args:
        switches: tell the format of times.
    """

    def __init__(self, switches: LogSwitches) -> None:
        super().__init__(_TEXT)
        self._switches = switches

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  # logging's
        """The time of a record, as text."""
        return super().formatTime(record, _ISO_TIME if self._switches.iso8601 else datefmt)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """``{"time", "level", "pid", "logger", "message"[, "exception"]}``."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def logging_config(switches: LogSwitches, style: str) -> dict[str, Any]:
    """The dictionary that configures Python's logging.

    Args:
        switches: which records are written.
        style: ``text`` or ``json``.
    """
    formatters: dict[str, dict[str, Any]] = {
        "text": {"()": TextFormatter, "switches": switches},
        "json": {"()": JsonFormatter},
    }
    loggers = ("gunicorn.error", "gunicorn.access", "cpuserve")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"switches": {"()": lambda: switches}},
        "formatters": {style: formatters[style]},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": style, "filters": ["switches"]}
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {name: {"handlers": ["stderr"], "level": "DEBUG", "propagate": False} for name in loggers},
    }
