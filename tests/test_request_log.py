"""A request's line: silent unless asked for, and nothing in it that was said."""

import logging

import pytest

from ccr_asgi.logs import REQUESTS
from ccr_asgi.request_log import log_request
from tests.usage.records import record


def test_it_is_silent_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    log_request(record())
    assert caplog.records == []


def test_it_tells_how_a_request_ended(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, REQUESTS):
        log_request(record(upstream_request_id="req_9"))
    (entry,) = caplog.records
    assert entry.getMessage() == "req_1: ok from cerebras in 2000 ms"
    fields = entry.__dict__["fields"]
    assert (fields["request_id"], fields["upstream_request_id"]) == ("req_1", "req_9")
    assert (fields["model"], fields["outcome"], fields["input_tokens"]) == ("gpt-oss-120b", "ok", 10)
