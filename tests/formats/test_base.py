"""What all formats share."""

import copy
import gc
import weakref
from typing import Any

import pytest

from ccr_asgi.errors import RequestError
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import ConversionContext, UpstreamRequest, UsageExtra, secrets_of, shallow_enough
from ccr_asgi.formats.count_tokens import count_request
from ccr_asgi.quirks import Quirks
from tests.formats.requests import body, route, user


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


class Body(dict[str, Any]):
    """A request's body of which one can see that it is gone."""


@pytest.mark.parametrize("kind", FORMATS)
def test_of_a_body_that_can_be_read_again_nothing_is_kept(kind: str) -> None:
    source = body(user("hello there"), model="m", stream=True)
    asked, reads = Body(source), 0
    seen = weakref.ref(asked)

    def read_again() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        return copy.deepcopy(source)

    conversion = FORMATS[kind].begin(asked, route(), ConversionContext("msg_1", read_again=read_again))
    machine = conversion.stream("text/event-stream")
    del asked
    gc.collect()
    assert seen() is None
    assert reads == 0
    assert machine.usage_so_far()["input_tokens"] == count_request(source)
    assert reads == 1


def test_nothing_is_told_beside_the_wire_by_default() -> None:
    assert UsageExtra() == UsageExtra(served_model=None, reasoning_tokens=None, estimated=False, unsent=None)
    assert UsageExtra() != UsageExtra(estimated=True)


def test_an_exhausted_stack_is_a_refusal() -> None:
    with pytest.raises(RequestError, match=r"^body: found JSON nested too deeply; accepted: "), shallow_enough():
        raise RecursionError


def test_any_other_error_is_left_alone() -> None:
    with pytest.raises(RuntimeError, match=r"^other$"), shallow_enough():
        raise RuntimeError("other")
