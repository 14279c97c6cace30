"""How the log is written: for people a line each, for programs a JSON object each.

No value that anybody else chose can forge a line. Neither bodies nor credentials are ever logged.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["line", "json"]

REQUESTS = "ccr_asgi.requests"
"""The logger that tells of each request when it is over. It is silent unless it is given a level: `usage.db` has more,
and a person at a terminal wants to see what goes wrong."""


class OneLineFormatter(logging.Formatter):
    """Escapes control characters, so that no logged value can forge a line of its own; tracebacks stay readable."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record's line, in one line."""
        return "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
            for char in super().formatMessage(record)
        )


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what stands in the record's `fields`.

    A traceback is in `exception`. The form is that of Docker's and systemd's collectors: a line is an entry.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON object."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_config(form: LogFormat) -> dict[str, Any]:
    """The logging of a server that we start ourselves, for `logging.config.dictConfig`."""
    formatters: Mapping[LogFormat, dict[str, str]] = {
        "line": {"()": "ccr_asgi.logs.OneLineFormatter", "fmt": "%(asctime)s %(levelname)-8s %(message)s"},
        "json": {"()": "ccr_asgi.logs.JsonFormatter"},
    }
    names = ("ccr_asgi", "uvicorn", "uvicorn.error", "_granian")
    loggers: dict[str, Any] = {name: {"handlers": ["stderr"], "level": "INFO", "propagate": False} for name in names}
    loggers[REQUESTS] = {"level": "INFO" if form == "json" else "WARNING"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"form": formatters[form]},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "form"}},
        "loggers": loggers,
    }
