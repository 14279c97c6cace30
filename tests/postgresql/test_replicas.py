"""Two servers on one PostgreSQL database: every request is a row, and the sums are exact."""

import asyncio
from pathlib import Path

import httpx

from tests.integration.claude import body, headers, new_session, providers, soon, tagged
from tests.integration.test_workers import ANTHROPIC_USAGE, CHAT_USAGE, STREAMS
from tests.postgresql.server import PostgreSQL, needs_postgresql
from tests.support.fake_upstream import FakeUpstream, anthropic_sse, chat_sse
from tests.support.server import running_server

SUMS = "select provider, {} from {} group by provider order by provider"
TOKENS = "sum(input_tokens), sum(cache_read_tokens), sum(output_tokens)"
ROW_SUMS = SUMS.format(f"count(*), {TOKENS}, count(case when outcome = 'ok' then 1 end)", "v_requests")
DAY_SUMS = SUMS.format(f"sum(requests), {TOKENS}", "v_daily")

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


def test_200_streams_over_2_servers_are_200_rows_with_exact_sums(
    fake_upstream: FakeUpstream, second_upstream: FakeUpstream, tmp_path: Path, postgresql: PostgreSQL
) -> None:
    postgresql.start()
    fake_upstream.on("/v1/messages", anthropic_sse(usage=ANTHROPIC_USAGE))
    second_upstream.on("/v1/chat/completions", chat_sse(usage=CHAT_USAGE))
    config = {"providers": providers(fake_upstream, second_upstream, fake_upstream)}
    env = {"CCR_ASGI_DATABASE_URL": postgresql.url()}
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with (
        running_server(config, tmp_path=folders[0], env=env) as one,
        running_server(config, tmp_path=folders[1], env=env) as two,
    ):
        assert set(asyncio.run(ask_all(one.url, two.url))) == {200}
        assert soon(lambda: len(postgresql.sessions()) == STREAMS)
        assert "Traceback" not in one.log() + two.log()
    half = STREAMS // 2
    passed = f"anthropic|{half}|{13 * half}|{170 * half}|{19 * half}"
    converted = f"cerebras|{half}|{1990 * half}|{310 * half}|{29 * half}"
    assert postgresql.query(ROW_SUMS) == [f"{passed}|{half}", f"{converted}|{half}"]
    assert postgresql.query(DAY_SUMS) == [passed, converted]
