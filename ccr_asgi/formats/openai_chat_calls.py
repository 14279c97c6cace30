"""Streamed tool calls put in order: they come interleaved, Anthropic's blocks go one after the other.

The call at the head of the line is written as it comes. What comes meanwhile for others, and text that comes before
the head is complete, waits its turn.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ccr_asgi.errors import CcrError
from ccr_asgi.formats.message_writer import MessageWriter
from ccr_asgi.wire.json_codec import dumps, loads

_USABLE_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(slots=True, eq=False)
class _Call:
    """One call: what has come of it, and how much of that has been written."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    opened: bool = False
    written: int = 0

    @property
    def text(self) -> str:
        return "".join(self.arguments)

    @property
    def may_be_whole(self) -> bool:
        """Worth the parsing, which grows with the arguments and would be done for every fragment."""
        return bool(self.arguments) and self.arguments[-1].rstrip().endswith("}")


class Calls:
    """The calls of one answer.

    Args:
        writer: Where they go.
        client_names: The client's name of each tool, by its upstream name.
        id_prefix: Unique to the answer; ids made here begin with it.
    """

    def __init__(self, writer: MessageWriter, client_names: Mapping[str, str], *, id_prefix: str) -> None:
        self.made = False
        self._writer = writer
        self._client_names = client_names
        self._id_prefix = id_prefix
        self._ids: set[str] = set()
        self._made_ids = 0
        self._by_index: dict[int, _Call] = {}
        self._latest: _Call | None = None
        self._line: deque[_Call | Callable[[], None]] = deque()

    def take(self, fragment: dict[str, Any]) -> str:
        """Take one entry of `tool_calls`; returns the text it added, for counting."""
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = _string(function.get("name")), _arguments(function.get("arguments"))
        call = self._call_of(fragment, name, arguments)
        if not call.opened:
            call.name = call.name or name
        call.id = call.id or _string(fragment.get("id"))
        if arguments:
            call.arguments.append(arguments)
        self._advance()
        return name + arguments

    def interleave(self, write: Callable[[], None]) -> None:
        """Write something else than a call, now or as soon as the calls before it are complete."""
        self._line.append(write)
        self._advance()

    def end(self, *, cut_off: bool, complain: Callable[[str], CcrError]) -> None:
        """Write all that still waits. With `cut_off` the token limit may have broken the last call's arguments.

        Raises:
            CcrError: What `complain` makes of the name of a call whose arguments are no JSON object.
        """
        last_call = next((item for item in reversed(self._line) if isinstance(item, _Call)), None)
        while self._line:
            item = self._line.popleft()
            if not isinstance(item, _Call):
                item()
                continue
            if not item.name and not item.text.strip():
                continue
            self._write(item)
            value = _object(item.text)
            if value is None and not (cut_off and item is last_call):
                raise complain(item.name)
            self._complete(item, value)

    def _call_of(self, fragment: dict[str, Any], name: str, arguments: str) -> _Call:
        """The call that a fragment belongs to, begun if it is a new one."""
        index, call_id = fragment.get("index"), _string(fragment.get("id"))
        known = self._by_index.get(index) if isinstance(index, int) else self._latest
        if known is None or _begins_anew(known, call_id, name, arguments):
            known = _Call()
            self._line.append(known)
        if isinstance(index, int):
            self._by_index[index] = known
        self._latest = known
        return known

    def _advance(self) -> None:
        """Write what can be written: all before the first incomplete call, and that call as far as it goes."""
        while self._line:
            head = self._line[0]
            if not isinstance(head, _Call):
                self._line.popleft()
                head()
                continue
            self._write(head)
            if len(self._line) == 1 or not head.opened:
                return
            value = _object(head.text) if head.may_be_whole else None
            if value is None:
                return
            self._line.popleft()
            self._complete(head, value)

    def _write(self, call: _Call) -> None:
        """Open the call once its name is known, and write its arguments once they are seen to be an object."""
        if not call.opened and call.name:
            call.opened = self.made = True
            self._writer.open_tool_use(self._unique(call.id), self._client_names.get(call.name, call.name))
        if not call.opened:
            return
        if call.written == 0 and not call.text.lstrip().startswith("{"):
            return
        for piece in call.arguments[call.written :]:
            self._writer.tool_input(piece)
        call.written = len(call.arguments)

    def _complete(self, call: _Call, value: dict[str, Any] | None) -> None:
        """Close the call; arguments that were not written as they came are written now."""
        if not call.opened:
            return
        if call.written == 0:
            self._writer.tool_input(call.text if value is None else dumps(value).decode())
        self._writer.close_block()

    def _unique(self, call_id: str) -> str:
        """The provider's id if it is usable and new, else one of ours: a client runs a repeated id only once."""
        while not _USABLE_ID.fullmatch(call_id) or call_id in self._ids:
            call_id = f"toolu_{self._id_prefix}_{self._made_ids}"
            self._made_ids += 1
        self._ids.add(call_id)
        return call_id


def _begins_anew(known: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Whether a fragment at the place of a known call starts another one.

    It does with an id of its own, or, where a provider gives no ids, with a name after complete arguments.
    """
    if call_id and known.id:
        return call_id != known.id
    if not name or not known.name or not arguments.lstrip().startswith("{"):
        return False
    return known.may_be_whole and _object(known.text) is not None


def _object(text: str) -> dict[str, Any] | None:
    """The object that complete arguments are; nothing and null stand for an empty one. None for anything else."""
    if not text.strip():
        return {}
    try:
        value = loads(text)
        if isinstance(value, str):  # encoded twice
            value = loads(value)
    except ValueError:
        return None
    return {} if value is None else value if isinstance(value, dict) else None


def _arguments(value: object) -> str:
    """A fragment of arguments; some providers send the object itself."""
    if value is None or isinstance(value, str):
        return value or ""
    return dumps(value).decode()


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
