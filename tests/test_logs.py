"""The log's two forms: neither lets a value forge an entry."""

import io
import json
import logging
import logging.config
from datetime import UTC, datetime

import pytest

from ccr_asgi.logs import REQUESTS, JsonFormatter, LogFormat, OneLineFormatter, log_config


def test_no_value_can_forge_a_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLineFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("model %s", "x\r\nERROR forged \x1b[2J \u2028 é")
    assert stream.getvalue() == "WARNING model x\\r\\nERROR forged \\x1b[2J \\u2028 é\n"


def test_a_traceback_stays_readable() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLineFormatter("%(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise LookupError("why")
    except LookupError:
        logger.exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "failed"
    assert lines[-1] == "LookupError: why"
    assert len(lines) > 3


def written(record: logging.LogRecord) -> dict[str, object]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    entry: dict[str, object] = json.loads(line)
    return entry


def test_an_entry_is_an_object_on_one_line() -> None:
    record = logging.LogRecord("ccr_asgi.x", logging.WARNING, "", 0, "model %s", ("a\nb",), None)
    record.created = datetime(2026, 1, 31, 9, 30, 0, 123_000, UTC).timestamp()
    record.fields = {"request_id": "req_1"}
    assert written(record) == {
        "time": "2026-01-31T09:30:00.123+00:00",
        "level": "WARNING",
        "logger": "ccr_asgi.x",
        "message": "model a\nb",
        "request_id": "req_1",
    }


def test_a_traceback_is_in_its_entry() -> None:
    try:
        raise LookupError("why")
    except LookupError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", None, (LookupError, error, error.__traceback__))
    assert str(written(record)["exception"]).endswith("LookupError: why")


@pytest.mark.parametrize(("form", "level"), [("line", "WARNING"), ("json", "INFO")])
def test_requests_are_told_to_programs(form: LogFormat, level: str) -> None:
    config = log_config(form)
    formatter = logging.config.DictConfigurator(config).configure_formatter(dict(config["formatters"]["form"]))
    assert isinstance(formatter, JsonFormatter if form == "json" else OneLineFormatter)
    assert set(config["loggers"]) == {"ccr_asgi", "uvicorn", "uvicorn.error", "_granian", REQUESTS}
    assert config["loggers"][REQUESTS] == {"level": level}
