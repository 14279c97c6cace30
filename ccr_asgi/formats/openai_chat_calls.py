"""Streamed tool calls put in order: they come interleaved, Anthropic's blocks go one after the other.

The call at the head of the line is written as it comes. What comes meanwhile for others, and text that comes before
the head is complete, waits its turn.

A call is opened when its arguments begin, not when its name is known: one that the token limit cuts off in between
would look like a call without arguments, which a client runs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ccr_asgi.errors import CcrError
from ccr_asgi.formats.answer_machine import string
from ccr_asgi.formats.message_writer import MessageWriter
from ccr_asgi.formats.tool_arguments import are_cut, arguments_object, arguments_text
from ccr_asgi.formats.tool_names import AnswerCallIds
from ccr_asgi.wire.json_codec import dumps


@dataclass(slots=True, eq=False)
class _Call:
    """One call: what has come of it, and how much of that has been written."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    written: int = 0
    closed: bool = False
    _weighed: int = 0
    _whole: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return "".join(self.arguments)

    @property
    def begins_object(self) -> bool:
        return bool(self.arguments) and self.arguments[0].startswith("{")

    @property
    def whole(self) -> dict[str, Any] | None:
        """The object that the arguments are, if they have come to an end.

        To parse them for every fragment would take quadratic time, so that is done only where they may be complete, and
        once for the same arguments.
        """
        if self._weighed < len(self.arguments):
            self._weighed = len(self.arguments)
            self._whole = arguments_object(self.text) if self.arguments[-1].rstrip().endswith("}") else None
        return self._whole

    def take(self, arguments: str) -> None:
        if not self.arguments:
            arguments = arguments.lstrip()  # so that the first piece shows what they begin with
        if arguments:
            self.arguments.append(arguments)


class Calls:
    """The calls of one answer.

    Args:
        writer: Where they go.
        client_names: The client's name of each tool, by its upstream name.
        taken_ids: Ids of the conversation's earlier calls: some providers count "call_0" anew in each answer.
        id_prefix: Unique to the answer; ids made here begin with it.
        complain: Makes the error for a call that cannot be made, from its name.
    """

    def __init__(
        self,
        writer: MessageWriter,
        client_names: Mapping[str, str],
        *,
        taken_ids: Iterable[str] = (),
        id_prefix: str,
        complain: Callable[[str], CcrError],
    ) -> None:
        self.made = False
        self._writer = writer
        self._client_names = client_names
        self._complain = complain
        self._ids = AnswerCallIds(id_prefix, taken_ids)
        self._by_index: dict[object, _Call] = {}
        self._latest: _Call | None = None
        self._line: deque[_Call | Callable[[], None]] = deque()

    def take(self, fragment: dict[str, Any]) -> str:
        """Take one entry of `tool_calls`; returns the text it added, for counting.

        Raises:
            CcrError: More arguments came for a call that was complete.
        """
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = string(function.get("name")), arguments_text(function.get("arguments"))
        call = self._call_of(fragment, name, arguments)
        if call.closed and arguments.strip():
            raise self._complain(call.name)
        added = arguments if call.name else name + arguments  # some repeat the name in every fragment
        call.id = call.id or string(fragment.get("id"))
        call.name = call.name or name
        call.take(arguments)
        self._advance()
        return added

    def interleave(self, write: Callable[[], None]) -> None:
        """Write something else than a call, now or as soon as the calls before it are complete."""
        if not self._line:
            write()
            return
        self._line.append(write)
        self._advance()

    def end(self, *, cut_off: bool, announced: bool) -> None:
        """Write all that still waits.

        Args:
            cut_off: The provider ended the answer before the model did, perhaps in the middle of the last call, which
                then is written as far as it came: not at all, if its arguments had not begun.
            announced: The provider said that this is the end; if not, a call without arguments may have lost them.

        Raises:
            CcrError: A call has no name, or its arguments are no JSON object.
        """
        last_call = next((item for item in reversed(self._line) if isinstance(item, _Call)), None)
        while self._line:
            item = self._line.popleft()
            if not isinstance(item, _Call):
                item()
            elif cut_off and item is last_call and _is_cut(item):
                self._write(item)
            elif item.name or item.arguments:
                value = arguments_object(item.text) if item.arguments or announced else None
                if value is None or not item.name:
                    raise self._complain(item.name)
                self._complete(item, value)

    def _call_of(self, fragment: dict[str, Any], name: str, arguments: str) -> _Call:
        """The call that a fragment belongs to, begun if it is a new one."""
        index = fragment.get("index")
        indexed = isinstance(index, int | float | str)
        known = self._by_index.get(index) if indexed else self._latest
        if known is None or _begins_anew(known, string(fragment.get("id")), name, arguments):
            known = _Call()
            self._line.append(known)
        if indexed:
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
            if len(self._line) == 1 or not head.name or head.whole is None:
                return
            self._line.popleft()
            self._complete(head, head.whole)

    def _write(self, call: _Call) -> None:
        """Write what has come of the arguments, once the name is known and they are seen to be an object."""
        if call.name and call.begins_object:
            if not call.written:
                self._open(call)
            for piece in call.arguments[call.written :]:
                self._writer.tool_input(piece)
            call.written = len(call.arguments)

    def _complete(self, call: _Call, value: dict[str, Any]) -> None:
        """Write the rest of a call and close it; arguments in an odd form are written in a plain one."""
        self._write(call)
        if not call.written:
            self._open(call)
            self._writer.tool_input(dumps(value).decode())
        self._writer.close_block()
        call.closed = True

    def _open(self, call: _Call) -> None:
        self.made = True
        self._writer.open_tool_use(self._ids.unique(call.id), self._client_names.get(call.name, call.name))


def _begins_anew(known: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Whether a fragment at the place of a known call starts another one.

    It does with an id of its own, or, where a provider gives no ids, after complete arguments, with another name or
    with the same one and further arguments.
    """
    if call_id and known.id:
        return call_id != known.id
    if not name or not known.name or known.whole is None:
        return False
    return name != known.name or arguments.lstrip().startswith("{")


def _is_cut(call: _Call) -> bool:
    """Whether the arguments are not yet complete, though so far nothing is wrong with them."""
    return not call.arguments or are_cut(call.text)
