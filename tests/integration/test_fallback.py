"""Fallback chains over real sockets: one clean answer from the next link, as long as the client has seen nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.claude import (
    BEARER,
    CHAT_MODEL,
    MODEL,
    THIRD_KEY,
    THIRD_MODEL,
    World,
    body,
    events,
    new_session,
    providers,
    tagged,
    world_in_a_thread,
)
from tests.support.fake_upstream import (
    Answer,
    FakeUpstream,
    Fault,
    RecordedRequest,
    anthropic_error,
    anthropic_message,
    anthropic_sse,
    chat_error,
    chat_sse,
    refused_url,
)
from tests.support.provider_answers import TEXT
from tests.support.raw_http import RawResponse
from tests.support.server import read_rows

COSTS = {CHAT_MODEL: {"input": 1.0, "output": 10.0}, THIRD_MODEL: {"input": 100.0, "output": 1000.0}}
THIRD_COST = (11, 7, 0.0081)
"""The tokens of the third party's usual answer, and what they cost in USD."""


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """cerebras falls back to moonshot, that failing to Anthropic; one of its models to nobody."""
    yield from _world(tmp_path_factory.mktemp("chained"), {"*": [f"moonshot,{THIRD_MODEL}", "anthropic"], "lonely": []})


@pytest.fixture
def world(chained: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("ccr_asgi.middleware.routing.Cooldowns.rest", lambda *_: None)  # tests share a process
    chained.forget()
    chained.third.on("/anthropic/v1/messages", third_answer)
    return chained


def _world(folder: Path, fallback: Any, **entry: Any) -> Iterator[World]:
    with FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        configured = providers(anthropic, chat, third)
        configured["cerebras"] |= {"fallback": fallback, **entry}
        settings = {"providers": configured, "usage": {"database": str(folder / "usage.db"), "costs": COSTS}}
        with world_in_a_thread(folder, settings) as served:
            yield World(served.url, served.database, anthropic, chat, third)


def told(response: RawResponse, prefix: str = "") -> dict[str, str]:
    """The header fields of an answer, by name."""
    fields = {name.decode().lower(): value.decode() for name, value in response.headers}
    return {name: value for name, value in fields.items() if name.startswith(prefix)}


def text_of(response: RawResponse) -> str:
    deltas = [event["delta"] for event in events(response.body) if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


def cost_of(row: dict[str, Any]) -> tuple[int | None, int | None, float | None]:
    """A row's tokens, in and out, and what it was billed in USD."""
    return row["input_tokens"], row["output_tokens"], row["billed_usd"]


def third_answer(request: RecordedRequest) -> Answer:
    """What the third party usually says, under its own model's name."""
    build = anthropic_sse if request.json().get("stream") else anthropic_message
    return build(model=THIRD_MODEL)


def attempts_of(world: World, session: str) -> list[tuple[Any, ...]]:
    row = world.row(session)
    query = f"select * from attempts where request_id = '{row['id']}' order by position"  # noqa: S608 -- our own id
    found = read_rows(world.database, query)
    assert row["attempts"] == max(1, len(found))
    return [(entry["provider"], entry["model"], entry["status"], entry["error_type"]) for entry in found]


FAILURES: dict[str, tuple[Answer, int, str]] = {
    "402": (chat_error(402, "no credit"), 402, "billing_error"),
    "408": (chat_error(408, "slow"), 504, "timeout_error"),
    "429": (chat_error(429, "busy", headers=[("retry-after", "7")]), 429, "rate_limit_error"),
    "500": (chat_error(500, "oops"), 502, "api_error"),
    "529": (chat_error(529, "overloaded"), 529, "overloaded_error"),
    "cut before the first byte": (Answer.raw(Fault.RESET), 502, "api_error"),
    "an empty answer": (Answer([Fault.RESET]), 502, "api_error"),
    "cut after the head": (chat_sse("x").inserting(0, Fault.RESET), 502, "api_error"),
    "an error in the stream at once": (
        chat_sse("x").inserting(0, b'data: {"error": {"code": 503}}\n\n'),
        529,
        "overloaded_error",
    ),
}


@pytest.mark.parametrize(("failure", "status", "error_type"), FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("stream", [True, False])
def test_the_next_link_answers(world: World, failure: Answer, status: int, error_type: str, stream: bool) -> None:
    world.chat.on("/v1/chat/completions", failure)
    session = new_session()
    response = world.post(tagged(stream=stream), session=session)
    assert response.status == 200
    if stream:
        assert text_of(response) == TEXT
    else:
        assert json.loads(response.body)["content"] == [{"type": "text", "text": TEXT}]
    assert told(response, "x-ccr-") == {"x-ccr-provider": "moonshot", "x-ccr-model": THIRD_MODEL, "x-ccr-attempts": "2"}
    (asked,) = world.third.requests
    assert (asked.json()["model"], asked.header("x-api-key")) == (THIRD_MODEL, THIRD_KEY.encode())
    assert BEARER.encode() not in b"".join(bytes(request.raw) for request in world.third.arriving)
    assert attempts_of(world, session) == [
        ("cerebras", CHAT_MODEL, status, error_type),
        ("moonshot", THIRD_MODEL, 200, None),
    ]
    row = world.row(session)
    assert (row["provider"], row["outcome"], row["status"], row["input_tokens"]) == ("moonshot", "ok", 200, 11)
    assert row["route_reason"] == "fallback"
    assert cost_of(row) == THIRD_COST


def test_a_refused_connection_is_not_tried_again(tmp_path: Path) -> None:
    with refused_url() as url:
        for world in _world(tmp_path, [f"moonshot,{THIRD_MODEL}"], baseUrl=f"{url}/v1/chat/completions"):
            world.third.on("/anthropic/v1/messages", third_answer)
            session = new_session()
            assert world.post(tagged(), session=session).status == 200
            row = world.row(session)
            assert (row["resends"], row["provider"], cost_of(row)) == (0, "moonshot", THIRD_COST)
            assert attempts_of(world, session)[0][:3] == ("cerebras", CHAT_MODEL, 502)


def test_the_last_link_keeps_the_client_s_credential_and_model(world: World) -> None:
    world.chat.on("/v1/chat/completions", chat_error(529, "overloaded"))
    world.third.on("/anthropic/v1/messages", anthropic_error(429, "busy", "rate_limit_error"))
    session = new_session()
    response = world.post(tagged(), session=session)
    assert response.status == 200
    (asked,) = world.anthropic.requests
    assert (asked.json()["model"], asked.header("authorization")) == (MODEL, BEARER.encode())
    assert [attempt[:3] for attempt in attempts_of(world, session)] == [
        ("cerebras", CHAT_MODEL, 529),
        ("moonshot", THIRD_MODEL, 429),
        ("anthropic", MODEL, 200),
    ]
    assert told(response)["x-ccr-attempts"] == "3"


@pytest.mark.parametrize("last", [anthropic_error(400, "no such model"), anthropic_error(529, "overloaded")])
def test_if_all_fail_the_first_error_is_shown(world: World, last: Answer) -> None:
    world.chat.on("/v1/chat/completions", chat_error(429, "the first one", headers=[("retry-after", "7")]))
    world.third.on("/anthropic/v1/messages", anthropic_error(500, "the second one"))
    world.anthropic.on("/v1/messages", last)
    session = new_session()
    response = world.post(tagged(), session=session)
    error = json.loads(response.body)["error"]
    assert (response.status, error["type"]) == (429, "rate_limit_error")
    assert "the first one" in error["message"]
    assert told(response)["retry-after"] == "7"
    assert [attempt[0] for attempt in attempts_of(world, session)] == ["cerebras", "moonshot", "anthropic"]
    row = world.row(session)
    assert (row["outcome"], row["status"], row["error_type"], row["attempts"]) == ("error", 429, "rate_limit_error", 3)
    assert cost_of(row) == (None, None, None), "nobody answered, so nothing was used"


def test_after_the_first_byte_there_is_no_second_provider(world: World) -> None:
    world.chat.on("/v1/chat/completions", chat_sse("Half of it").inserting(2, Fault.RESET))
    session = new_session()
    response = world.post(tagged(), session=session)
    assert response.status == 200
    assert events(response.body)[-1]["type"] == "error"
    assert not world.third.arriving
    assert not world.anthropic.arriving
    row = world.row(session)
    assert (row["provider"], row["outcome"], row["attempts"]) == ("cerebras", "error", 1)
    assert (row["estimated"], row["billed_usd"]) == (1, (row["input_tokens"] + 10 * row["output_tokens"]) / 1_000_000)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_another_provider_would_not_mend_is_shown_at_once(world: World, status: int) -> None:
    world.chat.on("/v1/chat/completions", chat_error(status, "your own fault"))
    assert "your own fault" in world.post(tagged()).body.decode()
    assert not world.third.arriving


def test_a_model_that_answers_under_another_name_costs_what_was_asked_for(world: World) -> None:
    world.chat.on("/v1/chat/completions", chat_error(429, "busy"))
    world.third.on("/anthropic/v1/messages", anthropic_sse(model="kimi-of-another-name"))
    session = new_session()
    assert world.post(tagged(), session=session).status == 200
    row = world.row(session)
    assert (row["model"], cost_of(row)) == ("kimi-of-another-name", THIRD_COST)


def test_what_a_link_that_failed_told_of_its_quota_is_kept(world: World) -> None:
    told = [("x-codex-primary-used-percent", "100"), ("x-codex-primary-window-minutes", "300")]
    world.chat.on("/v1/chat/completions", chat_error(429, "used up", headers=told))
    session = new_session()
    assert world.post(tagged(), session=session).status == 200
    world.row(session)
    (window,) = read_rows(world.database, "select * from v_quota where provider = 'cerebras'")
    assert (window["window_name"], window["used_percent"]) == ("primary", 100.0)


def test_a_model_with_an_empty_chain_has_none(world: World) -> None:
    world.chat.on("/v1/chat/completions", chat_error(529, "overloaded"))
    assert world.post(tagged("cerebras,lonely")).status == 529
    assert not world.third.arriving


def test_a_link_that_failed_rests_while_another_remains(tmp_path: Path) -> None:
    for world in _world(tmp_path, [f"moonshot,{THIRD_MODEL}"]):
        world.chat.script(chat_error(429, "busy", headers=[("retry-after", "60")]))
        for _ in range(3):
            assert world.post(tagged()).status == 200
        assert [len(world.chat.requests), len(world.third.requests)] == [1, 3]
        assert text_of(world.post(tagged(f"cerebras,{CHAT_MODEL}-2"))) == TEXT
        assert len(world.chat.requests) == 2, "another model of the same provider does not rest"
        world.third.on("/anthropic/v1/messages", anthropic_error(529, "overloaded"))
        assert world.post(tagged()).status == 529
        assert world.post(tagged()).status == 200, "both rest, so both are asked"


def test_without_a_chain_nothing_rests(world: World) -> None:
    world.anthropic.script(anthropic_error(529, "overloaded"))
    assert [world.post(body()).status for _ in range(2)] == [529, 200]


def test_a_passthrough_link_may_have_a_chain_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccr_asgi.middleware.routing.Cooldowns.rest", lambda *_: None)
    with FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        configured = providers(anthropic, chat, third)
        configured["anthropic"]["fallback"] = [f"cerebras,{CHAT_MODEL}"]
        with world_in_a_thread(tmp_path, {"providers": configured}) as world:
            anthropic.script(anthropic_error(529, "overloaded"))
            answered = world.post(body())
            assert (answered.status, told(answered)["x-ccr-provider"]) == (200, "cerebras")
            chat.on("/v1/chat/completions", chat_error(500, "oops"))
            own = anthropic_error(529, "Anthropic's own words", headers=[("x-own", "kept")])
            anthropic.on("/v1/messages", own)
            failed = world.post(body())
            assert (failed.status, told(failed)["x-own"]) == (529, "kept")
            assert "Anthropic's own words" in failed.body.decode()
            anthropic.on("/v1/messages", anthropic_sse("Well."))
            assert told(world.post(body()), "x-ccr-") == {}, "an answer that passed through is untouched"


@pytest.fixture
def claude_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Anthropic itself falls back to cerebras."""
    monkeypatch.setattr("ccr_asgi.middleware.routing.Cooldowns.rest", lambda *_: None)
    with FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        configured = providers(anthropic, chat, third)
        configured["anthropic"]["fallback"] = [f"cerebras,{CHAT_MODEL}"]
        settings = {"providers": configured, "usage": {"database": str(tmp_path / "usage.db"), "costs": COSTS}}
        with world_in_a_thread(tmp_path, settings) as served:
            yield World(served.url, served.database, anthropic, chat, third)


@pytest.mark.parametrize("cut", [Answer.raw(Fault.RESET), anthropic_sse("x").inserting(0, Fault.RESET)])
def test_a_passthrough_link_cut_before_the_first_byte_has_a_next_one(claude_first: World, cut: Answer) -> None:
    claude_first.anthropic.on("/v1/messages", cut)
    session = new_session()
    assert claude_first.post(body(), session=session).status == 200
    row = claude_first.row(session)
    assert (row["provider"], row["attempts"], cost_of(row)) == ("cerebras", 2, (11, 7, 0.000081))


def test_a_passthrough_link_cut_after_the_first_byte_has_none(claude_first: World) -> None:
    claude_first.anthropic.on("/v1/messages", anthropic_sse("Half of it").inserting(2, Fault.RESET))
    session = new_session()
    response = claude_first.post(body(), session=session)
    assert response.status == 200
    assert events(response.body)[-1]["type"] == "error"
    assert not claude_first.chat.arriving
    row = claude_first.row(session)
    assert (row["provider"], row["outcome"], row["attempts"]) == ("anthropic", "error", 1)


def test_a_refusal_without_end_is_not_kept(claude_first: World) -> None:
    endless = anthropic_error(529, "x" * 2_000_000, "overloaded_error")
    claude_first.anthropic.on("/v1/messages", endless)
    assert claude_first.post(body()).status == 200
    claude_first.chat.on("/v1/chat/completions", chat_error(500, "oops"))
    failed = claude_first.post(body())
    assert (failed.status, b"at great length" in failed.body, len(failed.body) < 1000) == (502, True, True)
