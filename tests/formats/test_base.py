"""What all formats share."""

from typing import Any

import pytest

from ccr_asgi.errors import RequestError
from ccr_asgi.formats.base import ConversionContext, UpstreamRequest, UsageExtra, secrets_of, shallow_enough
from ccr_asgi.quirks import Quirks
from tests.formats.requests import route


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ({}, ()),
        ({"api_key": "1234567"}, ()),
        ({"api_key": "12345678"}, ("12345678",)),
        (
            {"api_key": "of-the-key", "headers": (("a", "of-a-header"), ("b", "short"))},
            ("of-the-key", "of-a-header"),
        ),
        ({"quirks": Quirks(headers={"a": "of-a-quirk", "b": "brief"})}, ("of-a-quirk",)),
    ],
)
def test_long_values_of_a_provider_are_secrets(provider: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert secrets_of(route(**provider).provider) == expected


def test_a_session_and_headers_may_be_missing() -> None:
    assert ConversionContext("msg_1") == ConversionContext(message_id="msg_1", session_id=None)
    assert UpstreamRequest(b"{}") == UpstreamRequest(body=b"{}", headers=())


def test_nothing_is_told_beside_the_wire_by_default() -> None:
    assert UsageExtra() == UsageExtra(served_model=None, reasoning_tokens=None, estimated=False, unsent=None)
    assert UsageExtra() != UsageExtra(estimated=True)


def test_an_exhausted_stack_is_a_refusal() -> None:
    with pytest.raises(RequestError, match=r"^body: found JSON nested too deeply; accepted: "), shallow_enough():
        raise RecursionError


def test_any_other_error_is_left_alone() -> None:
    with pytest.raises(RuntimeError, match=r"^other$"), shallow_enough():
        raise RuntimeError("other")
