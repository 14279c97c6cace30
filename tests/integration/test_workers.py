"""Several processes on one usage.db: every request is a row, and the sums are exact."""

import asyncio
from pathlib import Path

import httpx

from tests.integration.claude import body, headers, new_session, soon, tagged, world_in_a_process
from tests.support.fake_upstream import anthropic_sse, chat_sse
from tests.support.server import read_rows

STREAMS = 200
ANTHROPIC_USAGE = {"input_tokens": 13, "cache_read_input_tokens": 170, "output_tokens": 19}
CHAT_USAGE = {
    "prompt_tokens": 2300,
    "completion_tokens": 29,
    "total_tokens": 2329,
    "prompt_tokens_details": {"cached_tokens": 310},
}
SUMS = (
    "select provider, count(*) as requests, sum(input_tokens) as input, sum(cache_read_tokens) as cached, "
    "sum(output_tokens) as output, sum(outcome = 'ok') as ok from v_requests group by provider order by provider"
)
DAILY = (
    "select provider, sum(requests) as requests, sum(input_tokens) as input, sum(cache_read_tokens) as cached, "
    "sum(output_tokens) as output from v_daily group by provider order by provider"
)


async def ask_all(url: str) -> list[httpx.Response]:
    """Half of the streams pass through, half are converted, all at once."""
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=50) as client:

        async def ask(number: int) -> httpx.Response:
            content = body() if number % 2 else tagged()
            return await client.post("/v1/messages?beta=true", content=content, headers=headers(new_session()))

        return await asyncio.gather(*map(ask, range(STREAMS)))


def test_200_streams_over_4_processes_are_200_rows_with_exact_sums(tmp_path: Path) -> None:
    with world_in_a_process(tmp_path, arguments=("--workers", "4")) as world:
        world.anthropic.on("/v1/messages", anthropic_sse(usage=ANTHROPIC_USAGE))
        world.chat.on("/v1/chat/completions", chat_sse(usage=CHAT_USAGE))
        answers = asyncio.run(ask_all(world.url))
        assert {answer.status_code for answer in answers} == {200}
        assert soon(lambda: len(read_rows(world.database, "select id from v_requests")) == STREAMS)
        half = STREAMS // 2
        expected = [
            {"provider": "anthropic", "requests": half, "input": 13 * half, "cached": 170 * half, "output": 19 * half},
            {"provider": "cerebras", "requests": half, "input": 1990 * half, "cached": 310 * half, "output": 29 * half},
        ]
        assert read_rows(world.database, SUMS) == [{**entry, "ok": half} for entry in expected]
        assert read_rows(world.database, DAILY) == expected
