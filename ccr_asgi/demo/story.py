"""What happens in the demo: sessions of turns, drawn by chance from a seed and so the same each time.

A session is a main conversation on Claude that now and then starts an agent. Every conversation grows: what was said
before is read from the provider's cache, what is new is written to it or, where caching is the provider's own affair,
counted as input.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import log
from random import Random
from uuid import UUID

import msgspec

from ccr_asgi.demo.cast import AGENTS, FAULTS, HAIKU, OPUS, PROJECTS, Agent, Model

FAILS, LEAVES, BREAKS_OFF = 0.03, 0.015, 0.006
"""How many turns are refused by the provider, left by the client, and cut short (by Anthropic), as shares of 1."""

LIVE_SESSIONS = 3
"""Sessions that go on at the same time."""

REFUSAL_MS = 180.0
"""How long a provider takes to refuse."""

FIRST_PROMPT_TOKENS = 18_000
AGENT_PROMPT_TOKENS = 4_500
BLOCK_TOKENS = 128
"""OpenAI and those like it read whole blocks from their cache."""
UNCACHED_TOKENS = 4
"""What Anthropic counts as plain input where all of a conversation is cached."""

_MARK = re.compile(r"<simulated>(.+?)</simulated>", re.DOTALL)


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a simulated provider does with one request.

    Attributes:
        status: Its HTTP status; with another than 200 there is only an error.
        refused_by: The one provider that answers with that status; any other gives the answer. None: every one does.
        input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens: Disjoint, as in a row.
        output_tokens: Thinking included.
        reasoning_tokens: The part of them that went into thinking.
        ttft_ms: Milliseconds to the first content.
        duration_ms: Milliseconds to the last byte.
        thinks: It begins with thinking.
        calls: It ends with a call of the tool of this name.
        arguments: What the tool is called with, as JSON.
        breaks_off: It ends in the middle.
    """

    status: int = 200
    refused_by: str | None = None
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    ttft_ms: float = 0.0
    duration_ms: float = 0.0
    thinks: bool = False
    calls: str | None = None
    arguments: str = '{"topic": "the demo"}'
    breaks_off: bool = False

    def refuses(self, provider: str) -> bool:
        """Whether `provider` has nothing but an error to say."""
        return self.status != 200 and self.refused_by in (None, provider)


@dataclass(frozen=True, slots=True)
class Turn:
    """One request, and what will become of it.

    Attributes:
        begins_s: Seconds from the session's begin.
        session_id, project: Of the session.
        agent: Whose turn it is; None in the main conversation.
        agent_id: The run's id. Claude Code's own are random; these are for people to read.
        parent_agent_id: The run that started this one, unless the main conversation did.
        asked_model: The model that the request names.
        model: The model that is asked in the end, whether or not it answers.
        streamed: Whether a stream is asked for.
        reply: What the provider will do.
        leaves_ms: When the client leaves before the end, in milliseconds from the turn's begin; None if it stays.
    """

    begins_s: float
    session_id: str
    project: str
    agent: Agent | None
    agent_id: str | None
    parent_agent_id: str | None
    asked_model: str
    model: Model
    streamed: bool
    reply: Reply
    leaves_ms: float | None = None

    @property
    def answered_by(self) -> Model:
        """The model that answers: the one that is asked, but where its provider refuses and there is another."""
        fallback = self.model.fallback
        return fallback if fallback is not None and self.reply.refused_by is not None else self.model

    @property
    def lasts_s(self) -> float:
        """Seconds from its begin to its end."""
        refusal_ms = REFUSAL_MS if self.reply.refused_by is not None else 0
        return (refusal_ms + (self.reply.duration_ms if self.leaves_ms is None else self.leaves_ms)) / 1000


def seeded(name: str, seed: int) -> Random:
    """The chances of what has this name, the same each time for a seed."""
    return Random(f"{name} {seed}")  # noqa: S311 -- no secret is made of it


def prompt(reply: Reply) -> str:
    """The words of a request that will be answered by `reply`."""
    return f"A turn of the demo. <simulated>{msgspec.json.encode(reply).decode()}</simulated>"


def reply_to(text: str) -> Reply | None:
    """The reply that a prompt asks for; None if it asks for none that can be given."""
    marks = _MARK.findall(text)
    try:
        return msgspec.json.decode(marks[-1], type=Reply) if marks else None
    except msgspec.DecodeError:
        return None


def session(chance: Random, first_agent: Agent) -> Iterator[Turn]:
    """The turns of one session, in the order in which they begin; the main conversation starts `first_agent` first."""
    return _Session(chance, str(UUID(int=chance.getrandbits(128), version=4)), chance.choice(PROJECTS)).turns(
        first_agent
    )


def live(chance: Random) -> Iterator[Turn]:
    """Turns without end, by several sessions in turn; every provider is among the first ones."""
    agents = count()
    running = [session(chance, AGENTS[next(agents) % len(AGENTS)]) for _ in range(LIVE_SESSIONS)]
    while True:
        for place, turns in enumerate(running):
            turn = next(turns, None)
            if turn is None:
                running[place] = session(chance, AGENTS[next(agents) % len(AGENTS)])
                turn = next(running[place])
            yield turn


@dataclass(slots=True)
class _Conversation:
    """One growing conversation: the main one, or a run of an agent."""

    model: Model
    asked_model: str
    context_tokens: int
    reads_tokens: int
    writes_tokens: int
    agent: Agent | None = None
    agent_id: str | None = None
    parent_agent_id: str | None = None
    cached_tokens: int = 0


@dataclass(slots=True)
class _Session:
    chance: Random
    session_id: str
    project: str
    now_s: float = 0.0
    runs: Counter[str] = field(default_factory=Counter)

    def turns(self, first_agent: Agent) -> Iterator[Turn]:
        main = _Conversation(OPUS, OPUS.name, FIRST_PROMPT_TOKENS, 1900, 380)
        yield self._title()
        for step in range(self.chance.randint(6, 16)):
            yield self._turn(main, calls="start_agent" if step == 0 else None)
            if step == 0 or self.chance.random() < 0.55:
                yield from self._run(first_agent if step == 0 else self.chance.choice(AGENTS), None)
            self.now_s += self.chance.expovariate(1 / 40)

    def _title(self) -> Turn:
        """The small question that a client asks beside the conversation, whole and not as a stream."""
        aside = _Conversation(HAIKU, HAIKU.name, 240, 0, 18)
        return self._turn(aside, streamed=False)

    def _run(self, agent: Agent, parent: str | None) -> Iterator[Turn]:
        self.runs[agent.name] += 1
        run = _Conversation(
            agent.model,
            agent.asks,
            AGENT_PROMPT_TOKENS,
            agent.reads_tokens,
            agent.writes_tokens,
            agent,
            f"{agent.name}-{self.runs[agent.name]}",
            parent,
        )
        turns = self.chance.randint(*agent.turns)
        for number in range(turns):
            yield self._turn(run, calls="look_up" if number < turns - 1 else None)
            if number == 0 and agent.starts is not None and self.chance.random() < 0.5:
                yield from self._run(agent.starts, run.agent_id)

    def _turn(self, talk: _Conversation, *, calls: str | None = None, streamed: bool = True) -> Turn:
        reply, leaves_ms = self._reply(talk, calls, streamed), None
        if reply.status == 200 and streamed and self.chance.random() < LEAVES:
            leaves_ms = reply.ttft_ms + (reply.duration_ms - reply.ttft_ms) * self.chance.uniform(0.2, 0.8)
        turn = Turn(
            self.now_s,
            self.session_id,
            self.project,
            talk.agent,
            talk.agent_id,
            talk.parent_agent_id,
            talk.asked_model,
            talk.model,
            streamed,
            reply,
            leaves_ms,
        )
        self.now_s += turn.lasts_s + self.chance.uniform(0.5, 3)
        return turn

    def _reply(self, talk: _Conversation, calls: str | None, streamed: bool) -> Reply:
        chance, model = self.chance, talk.model
        if chance.random() >= FAILS:
            return self._answer(talk, model, calls, streamed)
        status = chance.choice(FAULTS[model.provider])
        if model.fallback is None:
            return Reply(status, duration_ms=REFUSAL_MS)
        answer = self._answer(talk, model.fallback, calls, streamed)
        return msgspec.structs.replace(answer, status=status, refused_by=model.provider)

    def _answer(self, talk: _Conversation, model: Model, calls: str | None, streamed: bool) -> Reply:
        chance = self.chance
        output = max(8, round(self._about(talk.writes_tokens)))
        thinks = streamed and chance.random() < model.thinks
        ttft_ms = self._about(model.ttft_ms)
        reply = msgspec.structs.replace(
            _input(talk, kept=streamed),
            output_tokens=output,
            reasoning_tokens=output * 2 // 5 if thinks and model.provider != "anthropic" else 0,
            ttft_ms=round(ttft_ms),
            duration_ms=round(ttft_ms + 1000 * output / self._about(model.tokens_per_s)),
            thinks=thinks,
            calls=calls,
            breaks_off=streamed and model.provider == "anthropic" and chance.random() < BREAKS_OFF,
        )
        talk.context_tokens += output + round(self._about(talk.reads_tokens)) if talk.reads_tokens else 0
        return reply

    def _about(self, median: float) -> float:
        return self.chance.lognormvariate(log(median), 0.35)


def _input(talk: _Conversation, *, kept: bool) -> Reply:
    """A reply that counts the input of this turn, and nothing else yet; what it leaves in the cache stays there."""
    cached, talk.cached_tokens = talk.cached_tokens, talk.context_tokens
    if not kept:
        return Reply(input_tokens=talk.context_tokens)
    if talk.model.provider != "anthropic":
        cached -= cached % BLOCK_TOKENS
        return Reply(input_tokens=talk.context_tokens - cached, cache_read_tokens=cached)
    written = talk.context_tokens - cached
    if talk.agent is not None:
        return Reply(input_tokens=UNCACHED_TOKENS, cache_read_tokens=cached, cache_write_5m_tokens=written)
    # Claude Code keeps its main conversation for an hour.
    return Reply(input_tokens=UNCACHED_TOKENS, cache_read_tokens=cached, cache_write_1h_tokens=written)
