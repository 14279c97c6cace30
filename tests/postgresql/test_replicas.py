"""Two servers on one PostgreSQL database: every request is a row, and the sums are exact."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.claude import TARGET, body, headers, new_session, providers, soon, tagged
from tests.integration.test_workers import ANTHROPIC_USAGE, CHAT_USAGE, STREAMS
from tests.postgresql.nginx import BINARY, nginx
from tests.postgresql.server import REQUIRED, PostgreSQL, needs_postgresql
from tests.support.fake_upstream import FakeUpstream, anthropic_sse, chat_sse
from tests.support.server import RunningServer, running_server
from tests.support.signals import Gate

SUMS = "select provider, {} from {} group by provider order by provider"
TOKENS = "sum(input_tokens), sum(cache_read_tokens), sum(output_tokens)"
ROW_SUMS = SUMS.format(f"count(*), {TOKENS}, count(case when outcome = 'ok' then 1 end)", "v_requests")
DAY_SUMS = SUMS.format(f"sum(requests), {TOKENS}", "v_daily")

KILLED_UNDER = 100
ENDING = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

pytestmark = needs_postgresql


async def ask_all(*urls: str) -> list[int]:
    """Half of the streams pass through, half are converted, spread over the servers, all at once."""
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(limits=limits, timeout=50) as client:

        async def ask(number: int) -> int:
            content = body() if number % 2 else tagged()
            url = f"{urls[number // 2 % len(urls)]}/v1/messages?beta=true"
            return (await client.post(url, content=content, headers=headers(new_session()))).status_code

        return await asyncio.gather(*map(ask, range(STREAMS)))


@contextmanager
def two_servers(
    anthropic: FakeUpstream, chat: FakeUpstream, folder: Path, postgresql: PostgreSQL
) -> Iterator[tuple[RunningServer, RunningServer]]:
    config = {"providers": providers(anthropic, chat, anthropic)}
    env = {"CCR_ASGI_DATABASE_URL": postgresql.url()}
    folders = [folder / "one", folder / "two"]
    for each in folders:
        each.mkdir()
    with (
        running_server(config, tmp_path=folders[0], env=env) as one,
        running_server(config, tmp_path=folders[1], env=env) as two,
    ):
        yield one, two


def test_200_streams_over_2_servers_are_200_rows_with_exact_sums(
    fake_upstream: FakeUpstream, second_upstream: FakeUpstream, tmp_path: Path, postgresql: PostgreSQL
) -> None:
    postgresql.start()
    fake_upstream.on("/v1/messages", anthropic_sse(usage=ANTHROPIC_USAGE))
    second_upstream.on("/v1/chat/completions", chat_sse(usage=CHAT_USAGE))
    with two_servers(fake_upstream, second_upstream, tmp_path, postgresql) as (one, two):
        assert set(asyncio.run(ask_all(one.url, two.url))) == {200}
        assert soon(lambda: len(postgresql.sessions()) == STREAMS)
        assert "Traceback" not in one.log() + two.log()
    half = STREAMS // 2
    passed = f"anthropic|{half}|{13 * half}|{170 * half}|{19 * half}"
    converted = f"cerebras|{half}|{1990 * half}|{310 * half}|{29 * half}"
    assert postgresql.query(ROW_SUMS) == [f"{passed}|{half}", f"{converted}|{half}"]
    assert postgresql.query(DAY_SUMS) == [passed, converted]


@pytest.mark.skipif(BINARY is None and not REQUIRED, reason="needs Debian's nginx")
def test_one_of_two_servers_behind_nginx_is_killed_under_100_streams(
    fake_upstream: FakeUpstream, second_upstream: FakeUpstream, tmp_path: Path, postgresql: PostgreSQL
) -> None:
    """The other serves on: its streams end well, the killed ones are asked again, and each answer given is a row."""
    postgresql.start()
    gate = Gate()
    fake_upstream.on("/v1/messages", anthropic_sse(usage=ANTHROPIC_USAGE).inserting(3, gate))
    second_upstream.on("/v1/chat/completions", chat_sse(usage=CHAT_USAGE).inserting(3, gate))
    with two_servers(fake_upstream, second_upstream, tmp_path, postgresql) as (one, two):
        with nginx(tmp_path, [one.port, two.port]) as url:
            given = asyncio.run(ask_through_a_crash(url, crash=one.kill, go_on=gate.open))
        lost = [session for session, answers in given.items() if len(answers) == 2]
        assert 0 < len(lost) < KILLED_UNDER
        assert all(answers[-1].endswith(ENDING) for answers in given.values())
        assert soon(lambda: len(postgresql.sessions()) >= KILLED_UNDER)
        assert sorted(postgresql.sessions()) == sorted(given)
        assert "Traceback" not in two.log()


async def ask_through_a_crash(
    url: str, *, crash: Callable[[], None], go_on: Callable[[], None]
) -> dict[str, list[bytes]]:
    """What each session got: one answer, or a broken one and, asked again, another."""
    given: dict[str, list[bytes]] = {new_session(): [] for _ in range(KILLED_UNDER)}
    begun, crashed = asyncio.Semaphore(0), asyncio.Event()
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=STREAMS), timeout=50) as client:

        async def ask(session: str, content: bytes) -> None:
            given[session].append(b"")
            request = client.stream("POST", f"{url}{TARGET}", content=content, headers=headers(session))
            async with request as answer:
                assert answer.status_code == 200
                async for chunk in answer.aiter_bytes():
                    if not given[session][-1]:
                        begun.release()
                    given[session][-1] += chunk

        async def insist(number: int, session: str) -> None:
            content = body() if number % 2 else tagged()
            try:
                await ask(session, content)
            except httpx.RemoteProtocolError:
                await crashed.wait()
                await ask(session, content)

        async def kill() -> None:
            for _ in given:
                await begun.acquire()
            crash()
            go_on()
            crashed.set()

        await asyncio.gather(kill(), *(insist(number, session) for number, session in enumerate(given)))
    return given
