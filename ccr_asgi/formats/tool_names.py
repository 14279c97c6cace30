"""Tool names and call ids within the limits of OpenAI's APIs, and back again.

A function's name is at most 64 characters of a-z, A-Z, 0-9, underscore and dash (openai SDK, `FunctionDefinition`);
Anthropic's may be longer, and those of MCP servers are. Call ids are bound to 64 characters too.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256

PLACEHOLDER = "DeferredToolPlaceholder"
"""A tool of Claude Code's that is never to be called: it stands for tools that are still to be searched for."""

MAX_CHARS = 64
HASH_CHARS = 12

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_USABLE_ID = re.compile(r"[A-Za-z0-9_-]+")


class ToolNames:
    """The names of one request's tools on both sides, one to one.

    A name that fits stays as it is. Any other gets a readable prefix and a hash of the whole, the same in every
    request (so a provider's prefix cache holds); only where that is taken already is another hash tried.
    """

    def __init__(self, defined: Iterable[str] = ()) -> None:
        """Settle the names of the defined tools; those that fit come first, so that they stay as they are."""
        self._upstream: dict[str, str] = {}
        self._client: dict[str, str] = {}
        for name in sorted(defined, key=fits, reverse=True):
            self.upstream(name)

    def upstream(self, name: str) -> str:
        """The provider's name for the client's tool `name`, whether it is defined or only in the history."""
        if (known := self._upstream.get(name)) is not None:
            return known
        chosen = name if fits(name) and name not in self._client else _free(name, self._client, Counter())
        self._upstream[name] = chosen
        self._client[chosen] = name
        return chosen

    @property
    def client(self) -> Mapping[str, str]:
        """The client's name for each upstream name."""
        return self._client


class CallIds:
    """Call ids for the provider: at most 64 characters, and no two calls of a conversation share one."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}
        self._attempts: Counter[str] = Counter()

    def upstream(self, call_id: str) -> str:
        """A provider's id for the next call, whose Anthropic id is `call_id`; a repeated id gets another."""
        fits_already = 0 < len(call_id) <= MAX_CHARS and call_id not in self._taken
        chosen = call_id if fits_already else _free(call_id or "call", self._taken, self._attempts)
        self._taken[chosen] = call_id
        return chosen


class AnswerCallIds:
    """Call ids for the client: Anthropic's alphabet, and none twice, since a client runs a repeated id only once.

    Args:
        prefix: Unique to the answer; ids made here hold it.
        taken: Ids of the conversation's earlier calls: some providers count "call_0" anew in each answer.
    """

    def __init__(self, prefix: str, taken: Iterable[str] = ()) -> None:
        self._prefix = prefix
        self._taken = set(taken)
        self._made = 0

    def unique(self, call_id: str) -> str:
        """The provider's id if it is usable and new, else one of ours."""
        if not _USABLE_ID.fullmatch(call_id):
            call_id = ""
        while not call_id or call_id in self._taken:
            call_id = f"toolu_{self._prefix}_{self._made}"
            self._made += 1
        self._taken.add(call_id)
        return call_id


def fits(name: str) -> bool:
    """Whether a tool's name is within OpenAI's limits."""
    return 0 < len(name) <= MAX_CHARS and _FOREIGN.search(name) is None


def shorten(name: str, attempt: int = 0) -> str:
    """At most 64 allowed characters: the beginning of `name` and a hash of all of it (and of `attempt`)."""
    salted = f"{name}\0{attempt}" if attempt else name
    digest = sha256(salted.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARS]
    return f"{_FOREIGN.sub('_', name)[: MAX_CHARS - HASH_CHARS - 1]}_{digest}"


def _free(name: str, taken: Mapping[str, str], attempts: Counter[str]) -> str:
    """A short form of `name` that is not in `taken`; the first try depends on `name` alone.

    `attempts` counts the forms of each name that are known to be taken.
    """
    while (short := shorten(name, attempts[name])) in taken:
        attempts[name] += 1
    return short
