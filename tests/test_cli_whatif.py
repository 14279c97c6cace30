"""`ccr-asgi whatif`: equal to a real re-run of the same tokens, in a table and as JSON, with what it supposes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.cli import USAGE_ERROR, main
from tests.integration.claude import CHAT_MODEL, MODEL, World, body, new_session, providers, tagged, world_in_a_thread
from tests.support.fake_upstream import FakeUpstream, anthropic_sse, chat_sse
from tests.support.server import read_rows

TURNS: Sequence[tuple[int, int, int]] = [(1_000, 0, 50), (200, 1_000, 700), (33, 1_200, 1), (0, 5_000, 123)]
"""Tokens of some turns: input, input read from a cache, output."""
COSTS = {CHAT_MODEL: {"input": 1.25, "output": 3.5, "cacheRead": 0.125}}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the verb; gives its exit code and what it said."""

    def whatif(*arguments: str) -> tuple[int, str, str]:
        code = main(["whatif", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return whatif


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same turns, once with Claude and once with the other model; the path of the database."""
    with FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        database = tmp_path / "usage.db"
        usage = {"database": str(database), "costs": COSTS}
        settings = {"providers": providers(anthropic, chat, third), "usage": usage}
        with world_in_a_thread(tmp_path, settings) as world:
            for turn in TURNS:
                _play(World(world.url, database, anthropic, chat, third), *turn)
        config = tmp_path / "config.json"
        config.write_text(json.dumps(settings))
    monkeypatch.setenv("CCR_ASGI_CONFIG", str(config))
    return database


def _play(world: World, input_tokens: int, cached_tokens: int, output_tokens: int) -> None:
    used = {"input_tokens": input_tokens, "cache_read_input_tokens": cached_tokens, "output_tokens": output_tokens}
    world.anthropic.script(anthropic_sse("Well.", model=MODEL, usage={"cache_creation_input_tokens": 0, **used}))
    whole = input_tokens + cached_tokens
    world.chat.script(
        chat_sse(
            "Well.",
            usage={
                "prompt_tokens": whole,
                "prompt_tokens_details": {"cached_tokens": cached_tokens},
                "completion_tokens": output_tokens,
                "total_tokens": whole + output_tokens,
            },
        )
    )
    for content in (body(), tagged()):
        session = new_session()
        assert world.post(content, session=session).status == 200
        world.row(session)


def test_it_equals_a_real_re_run_of_the_same_tokens(played: Path, run: Run) -> None:
    code, said, _ = run("--map", f"haiku=cerebras,{CHAT_MODEL}", "--by", "model", "--range", "today", "--json")
    told = json.loads(said)
    found = next(group for group in told["groups"] if group["name"] == MODEL)
    real = read_rows(played, "select * from v_requests where provider = 'cerebras'")
    assert (code, found["requests"], found["moved"], len(real)) == (0, len(TURNS), len(TURNS), len(TURNS))
    for amount in ("billed", "list", "saved"):
        assert found["then"][f"{amount}_micro_usd"] == round(sum(row[f"{amount}_usd"] for row in real) * 1_000_000)
    assert found["tokens"] == sum(sum(turn) for turn in TURNS)
    uncached = sum(1.25 * (fresh + cached) + 3.5 * out for fresh, cached, out in TURNS)
    assert abs(found["without_cache"]["billed_micro_usd"] - uncached) <= len(TURNS), "each is rounded once"
    assert told["map"] == [f"haiku=cerebras,{CHAT_MODEL}"]
    assert any("tokenizer" in assumption for assumption in told["assumptions"])
    assert told["total"]["requests"] == 2 * len(TURNS)


def test_a_person_gets_a_table_and_what_it_supposes(played: Path, run: Run) -> None:
    code, said, errors = run("--map", f"haiku=cerebras,{CHAT_MODEL}", "--by", "model")
    head, *lines = said.splitlines()
    assert (code, errors) == (0, "")
    assert head.split()[:3] == ["model", "requests", "moved"]
    assert lines[0].split()[:3] == [MODEL, "4", "4"]
    assert " -> " in lines[0]
    assert lines[1].split()[:3] == [CHAT_MODEL, "4", "0"]
    assert lines[2].split()[:3] == ["all", "8", "4"]
    assert "tokenizer" in said


def test_days_and_agents(played: Path, run: Run) -> None:
    _, by_day, _ = run("--map", f"haiku=cerebras,{CHAT_MODEL}")
    assert by_day.splitlines()[1].split()[1] == "8"
    _, nobody, _ = run("--map", "haiku=anthropic", "--agent", "nobody", "--by", "agent", "--range", "all")
    assert nobody.splitlines()[1].split()[:2] == ["all", "0"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--map", "haiku"), "--map: found 'haiku'; accepted is MODEL=PROVIDER,MODEL"),
        (("--map", "haiku=nobody,m"), "--map: found 'nobody'; configured are anthropic, cerebras, moonshot."),
        (("--map", "haiku=anthropic", "--range", "2d"), "--range: found '2d'; accepted: 1h, 6h"),
    ],
)
def test_what_is_not_understood_is_told(arguments: Any, told: str, played: Path, run: Run) -> None:
    code, said, errors = run(*arguments)
    assert (code, said) == (USAGE_ERROR, "")
    assert told in errors
