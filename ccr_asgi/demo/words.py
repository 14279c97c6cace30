"""What a simulated answer says, whichever wire format it is written in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from uuid import uuid4

from ccr_asgi.demo.story import Reply

TOKENS_A_PIECE = 25
LEAST_PIECES, MOST_PIECES = 3, 40

_THOUGHT = "Nothing is thought here; this is what thinking looks like on its way."
_TEXT = "This answer is simulated: ccr-asgi demo made it up, and no model was asked."


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call: its name, its arguments as pieces of a JSON text, and an id that no other call has."""

    name: str
    arguments: Sequence[str]
    id: str


@dataclass(frozen=True, slots=True)
class Said:
    """The content of one answer, in the order in which it is said; texts in the pieces that a stream has."""

    thinking: Sequence[str]
    text: Sequence[str]
    call: Call | None


def said(reply: Reply) -> Said:
    """The content that `reply` asks for; a longer answer comes in more pieces."""
    pieces = min(MOST_PIECES, max(LEAST_PIECES, reply.output_tokens // TOKENS_A_PIECE))
    half = len(reply.arguments) // 2
    arguments = reply.arguments[:half], reply.arguments[half:]
    call = Call(reply.calls, arguments, f"call_{uuid4().hex}") if reply.calls else None
    return Said(list(_pieces(_THOUGHT, pieces)) if reply.thinks else [], list(_pieces(_TEXT, pieces)), call)


def _pieces(sentence: str, count: int) -> Iterator[str]:
    """At least the whole sentence, said again and again for long answers."""
    words = [f"{word} " for word in sentence.split()]
    return islice(cycle(words), max(count, len(words)))
