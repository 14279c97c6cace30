"""The story: the same for a seed, with all its cast in it, and numbers that could be real."""

from collections import defaultdict
from itertools import islice, pairwise

import pytest

from ccr_asgi.demo.cast import AGENTS, CODE_REVIEWER, KINDS
from ccr_asgi.demo.story import Reply, Turn, live, prompt, reply_to, seeded, session

MANY = 1500


def turns(seed: int = 1, count: int = MANY) -> list[Turn]:
    return list(islice(live(seeded("story", seed)), count))


def test_a_seed_tells_the_same_story_each_time() -> None:
    assert turns(7, 200) == turns(7, 200)
    assert turns(7, 200) != turns(8, 200)


@pytest.mark.parametrize("seed", range(1, 6))
def test_every_provider_is_asked_at_once(seed: int) -> None:
    assert {turn.model.provider for turn in turns(seed, 20)} == KINDS.keys()


def test_everything_that_can_happen_does() -> None:
    told = turns()
    assert {turn.agent for turn in told} == {None, *AGENTS}
    assert {turn.streamed for turn in told} == {True, False}
    assert {429, 529, 500, 503} <= {turn.reply.status for turn in told}
    assert any(turn.leaves_ms is not None for turn in told)
    assert any(turn.reply.breaks_off for turn in told)
    assert any(turn.answered_by is not turn.model for turn in told)
    assert any(turn.reply.thinks for turn in told)
    assert {"look_up", "start_agent", None} == {turn.reply.calls for turn in told}
    assert any(turn.reply.cache_write_5m_tokens for turn in told)
    assert any(turn.reply.cache_write_1h_tokens for turn in told)


def test_a_conversation_finds_in_the_cache_what_it_left_there() -> None:
    for seed in range(8):
        context: dict[str | None, int] = {}
        for turn in session(seeded("story", seed), AGENTS[0]):
            reply = turn.reply
            if not turn.streamed or reply.refuses(turn.answered_by.provider):
                continue
            kept, before = reply.cache_read_tokens, context.get(turn.agent_id, 0)
            assert before - 128 < kept <= before
            written = reply.cache_write_5m_tokens + reply.cache_write_1h_tokens
            context[turn.agent_id] = kept + (written or reply.input_tokens)


def test_agents_are_started_by_those_who_are_there() -> None:
    nested = 0
    for seed in range(8):
        seen: set[str | None] = {None}
        ids: dict[str, set[str]] = defaultdict(set)
        for turn in session(seeded("story", seed), CODE_REVIEWER):
            assert turn.parent_agent_id in seen
            nested += turn.parent_agent_id is not None
            seen.add(turn.agent_id)
            if turn.agent is not None and turn.agent_id is not None:
                ids[turn.agent.name].add(turn.agent_id)
        assert all(runs == {f"{name}-{run + 1}" for run in range(len(runs))} for name, runs in ids.items())
    assert nested


def test_times_go_forward() -> None:
    told = list(session(seeded("story", 1), AGENTS[0]))
    assert all(earlier.begins_s + earlier.lasts_s < later.begins_s for earlier, later in pairwise(told))
    assert all(turn.reply.ttft_ms <= turn.reply.duration_ms for turn in told)
    left = [turn for turn in turns() if turn.leaves_ms is not None]
    assert all(turn.reply.ttft_ms < (turn.leaves_ms or 0) < turn.reply.duration_ms for turn in left)


def test_a_fallback_costs_time() -> None:
    turn = next(turn for turn in turns() if turn.answered_by is not turn.model)
    assert turn.lasts_s > turn.reply.duration_ms / 1000
    assert turn.reply.refuses("cerebras")
    assert not turn.reply.refuses("codex")


@pytest.mark.parametrize(
    "reply", [Reply(), Reply(status=429, refused_by="cerebras"), Reply(1, "x", 2, 3, 4, 5, 6, 7, 8.5)]
)
def test_a_prompt_carries_its_reply(reply: Reply) -> None:
    assert reply_to(prompt(reply)) == reply


@pytest.mark.parametrize(
    "text", ["", "hi", "<simulated>", "<simulated>{</simulated>", '<simulated>{"status":"x"}</simulated>']
)
def test_other_words_carry_none(text: str) -> None:
    assert reply_to(text) is None
