"""The servers are run the way the promises need it."""

import logging.config

import pytest

from ccr_asgi import serving


def test_the_logs_of_the_servers_are_of_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    configurator = logging.config.DictConfigurator(serving.LOG_CONFIG)
    formatter = configurator.configure_formatter(configurator.config["formatters"]["line"])
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\nb", None, None)
    assert "\n" not in formatter.format(record)
    assert set(serving.LOG_CONFIG["loggers"]) == {"ccr_asgi", "uvicorn", "uvicorn.error", "_granian"}  # type: ignore[call-overload]
