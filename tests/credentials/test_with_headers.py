"""Further header fields beside any credentials."""

from ccr_asgi.asgi import Headers
from ccr_asgi.credentials.base import SecretHeaders
from ccr_asgi.credentials.with_headers import WithHeaders


class Login:
    refreshable = True

    def __init__(self) -> None:
        self.refused: list[Headers | None] = []

    async def headers(self, *, refused: Headers | None = None) -> Headers:
        self.refused.append(refused)
        return SecretHeaders([(b"authorization", b"Bearer invented")])


async def test_both_are_sent_and_the_source_is_told_of_its_own_alone() -> None:
    login = Login()
    both = WithHeaders(login, (("X-Team", "blue"),))
    given = await both.headers()
    assert given == [(b"authorization", b"Bearer invented"), (b"x-team", b"blue")]
    await both.headers(refused=given)
    assert login.refused == [None, [(b"authorization", b"Bearer invented")]]
    assert both.refreshable


async def test_no_value_is_shown() -> None:
    both = WithHeaders(Login(), (("X-Team", "a secret"),))
    assert "secret" not in repr(both) + repr(await both.headers())
