"""How many function calls an event costs: a figure that no mood of the machine changes.

    python -m benchmarks.calls

Counted are calls of Python and of C functions, as the interpreter reports them to a profiler, for one event more in a
stream that comes event by event, as models send them, or in one piece. A loop that becomes slower without a call is
not seen; nearly everything else is. `tests/test_calls_per_event.py` holds the code to the figures of `COMMITTED`.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.bare import PROVIDERS
from benchmarks.upstream import WORD, anthropic, chat, responses
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import ConversionContext
from ccr_asgi.routing import Route
from ccr_asgi.usage.accumulator import UsageAccumulator

Feed = Callable[[bytes], Any]

COMMITTED = {
    "tee, by events": 5.0,
    "tee, in one piece": 0.0,
    "chat, by events": 104.0,
    "chat, in one piece": 91.0,
    "responses, by events": 100.0,
    "responses, in one piece": 87.0,
}
"""Calls for one event, on CPython 3.11."""

FEW, MANY = 50, 250


def calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def tee() -> Feed:
    """What reads the usage out of a stream that is passed through."""
    return UsageAccumulator("text/event-stream", None).feed


def converter(kind: str) -> Callable[[], Feed]:
    """What makes Anthropic's events of a provider's."""

    def begin() -> Feed:
        body = {"model": "m", "max_tokens": 10, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        conversion = FORMATS[kind].begin(body, Route(PROVIDERS[kind], "m", "tag"), ConversionContext("msg_1"))
        return conversion.stream("text/event-stream").feed

    return begin


KINDS: dict[str, tuple[Callable[[], Feed], Callable[[Sequence[str]], list[bytes]]]] = {
    "tee": (tee, anthropic),
    "chat": (converter("openai-chat"), chat),
    "responses": (converter("openai-responses"), responses),
}


def per_event(begin: Callable[[], Feed], events: Callable[[Sequence[str]], list[bytes]], *, at_once: bool) -> float:
    """Calls for one event more."""

    def count(number: int) -> int:
        pieces = events([WORD % place for place in range(number)])
        feed = begin()
        if at_once:
            return calls(lambda: feed(b"".join(pieces)))
        return calls(lambda: [feed(piece) for piece in pieces])

    count(FEW)  # what is made on first use is made
    return (count(MANY) - count(FEW)) / (MANY - FEW)


def measured() -> dict[str, float]:
    """All figures, by the names of `COMMITTED`."""
    return {
        f"{name}, {words}": per_event(begin, events, at_once=at_once)
        for name, (begin, events) in KINDS.items()
        for words, at_once in (("by events", False), ("in one piece", True))
    }


def main() -> None:
    """Print the figures beside the committed ones."""
    for name, found in measured().items():
        print(f"{name:28}{found:8.2f}   committed {COMMITTED[name]:8.2f}")


if __name__ == "__main__":
    main()
