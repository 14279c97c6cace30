"""The output items of a Responses answer as far as they have come, and which of them an event means."""

from dataclasses import dataclass, field
from typing import Any

from ccr_asgi.formats.answer_machine import mapping, string


@dataclass(slots=True, eq=False)
class Item:
    """What all items have.

    Attributes:
        pieces: What it says, in the order it came.
        written: How many of the pieces are written.
        complete: Nothing more is taken.
        names: What the provider calls it: ids of the item, and of the call.
    """

    pieces: list[str] = field(default_factory=list)
    written: int = 0
    complete: bool = False
    names: set[str] = field(default_factory=set)

    def is_over(self, names: list[str]) -> bool:
        """Whether the item is complete, and an item with these names is another one."""
        return self.complete and bool(self.names) and bool(names) and self.names.isdisjoint(names)

    def unwritten(self) -> list[str]:
        """The pieces that are to be written now."""
        new = self.pieces[self.written :]
        self.written = len(self.pieces)
        return new

    def take_whole(self, text: str) -> str:
        """Take all that the item holds, of which pieces may have come before; returns what had not."""
        before = "".join(self.pieces)
        rest = text[len(before) :] if text.startswith(before) and not self.complete else ""
        if rest:
            self.pieces.append(rest)
        return rest


@dataclass(slots=True, eq=False)
class Message(Item):
    """Text, or a refusal."""


@dataclass(slots=True, eq=False)
class Reasoning(Item):
    """Reasoning: its summary or its text, and what only the provider can read.

    Attributes:
        part: The part that the latest piece belongs to; None if the next one begins another.
        encrypted_content: For the next request; "" if there is none.
    """

    part: object = None
    encrypted_content: str = ""


@dataclass(slots=True, eq=False)
class FunctionCall(Item):
    """A call of one of the client's tools; its pieces are the arguments."""

    name: str = ""
    call_id: str = ""

    @property
    def arguments(self) -> str:
        """The arguments as far as they have come."""
        return "".join(self.pieces)


@dataclass(slots=True, eq=False)
class Search(Item):
    """A search that the provider ran.

    What it found is told by the text that cites it, unless the item itself does; so that text waits for its own end.

    Attributes:
        query: What was searched for.
        results: URL to title; None if nothing is known.
    """

    query: str = ""
    results: dict[str, str] | None = None


def names_of(item: dict[str, Any]) -> list[str]:
    """The ids that an item is told with."""
    return [name for key in ("id", "call_id") if (name := string(item.get(key)))]


class Places:
    """Tells which item of an answer an event means.

    By its output_index. Where a server sends none, items are counted as their ids appear; what has no id either belongs
    to the latest.
    """

    def __init__(self) -> None:
        self._of_id: dict[str, int] = {}
        self._latest = 0
        self._next = 0

    def of(self, event: dict[str, Any]) -> int:
        """The place of the item that an event is about."""
        index, item = event.get("output_index"), mapping(event, "item")
        item_id = string(event.get("item_id")) or string(item.get("id"))
        if isinstance(index, int) and not isinstance(index, bool):
            place = index
        elif item_id:
            place = self._of_id.get(item_id, self._next)
        else:
            place = self._next if item and event.get("type") == "response.output_item.added" else self._latest
        if item_id:
            self._of_id.setdefault(item_id, place)
        self._latest, self._next = place, max(self._next, place + 1)
        return place

    def known(self, item: dict[str, Any], otherwise: int) -> int:
        """The place of an item that the finished answer holds."""
        return self._of_id.get(string(item.get("id")), otherwise)
