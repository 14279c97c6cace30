"""A key from the configuration goes out in the header that its wire format wants, and is never shown."""

import pytest

from ccr_asgi.config import Kind, Provider
from ccr_asgi.credentials.static import StaticKey

SECRET = "invented-secret"


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("anthropic", (b"x-api-key", b"invented-secret")),
        ("openai-chat", (b"authorization", b"Bearer invented-secret")),
        ("openai-responses", (b"authorization", b"Bearer invented-secret")),
    ],
)
async def test_each_wire_format_has_its_header(kind: Kind, header: tuple[bytes, bytes]) -> None:
    assert await StaticKey(SECRET, kind=kind).headers() == [header]


async def test_chat_is_the_usual_one() -> None:
    assert await StaticKey(SECRET).headers() == [(b"authorization", b"Bearer invented-secret")]


async def test_further_headers_are_sent_as_they_are_with_names_in_lower_case() -> None:
    key = StaticKey(SECRET, extra=(("X-Title", "T"), ("api-version", "1")))
    assert await key.headers() == [
        (b"x-title", b"T"),
        (b"api-version", b"1"),
        (b"authorization", b"Bearer invented-secret"),
    ]


@pytest.mark.parametrize(("kind", "name"), [("openai-chat", "Authorization"), ("anthropic", "X-API-Key")])
async def test_a_header_of_the_configuration_comes_before_the_key(kind: Kind, name: str) -> None:
    assert await StaticKey("none", kind=kind, extra=((name, SECRET),)).headers() == [
        (name.lower().encode(), SECRET.encode())
    ]


async def test_without_a_key_only_the_further_headers_are_sent() -> None:
    assert await StaticKey(None).headers() == []
    assert await StaticKey(None, extra=(("api-key", SECRET),)).headers() == [(b"api-key", SECRET.encode())]


async def test_it_has_nothing_new_to_give() -> None:
    key = StaticKey(SECRET)
    assert not key.refreshable
    assert await key.headers(refused=await key.headers()) == await key.headers()


async def test_it_is_made_of_a_provider() -> None:
    provider = Provider("x", "anthropic", "http://h", api_key=SECRET, headers=(("A", "1"),))
    assert await StaticKey.of(provider).headers() == [(b"a", b"1"), (b"x-api-key", SECRET.encode())]


def test_it_shows_names_and_no_secret() -> None:
    shown = repr(StaticKey(SECRET, extra=(("X-Title", SECRET),)))
    assert shown == "StaticKey(x-title, authorization: ***)"
