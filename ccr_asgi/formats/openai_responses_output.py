"""The output items of a Responses answer put in order: they may come interleaved, Anthropic's blocks go one by one.

The item at the head of the line is written as it comes. What comes meanwhile for others waits its turn. Items are told
apart by their output_index; events of calls carry nothing else that would do.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ccr_asgi.errors import CcrError
from ccr_asgi.formats.answer_machine import mapping, objects, string
from ccr_asgi.formats.message_writer import MessageWriter
from ccr_asgi.formats.openai_reasoning import signature_of
from ccr_asgi.formats.openai_responses_tools import WEB_SEARCH
from ccr_asgi.formats.tool_arguments import are_cut, arguments_object, arguments_text
from ccr_asgi.formats.tool_names import AnswerCallIds
from ccr_asgi.wire.json_codec import dumps

Key = int | str
"""An output_index; where a server sends none, the item's id."""


@dataclass(slots=True, eq=False)
class _Item:
    """What all items have: pieces in the order they came, how many of them are written, whether it is complete."""

    pieces: list[str] = field(default_factory=list)
    written: int = 0
    complete: bool = False

    def unwritten(self) -> list[str]:
        new = self.pieces[self.written :]
        self.written = len(self.pieces)
        return new

    def take_whole(self, text: str) -> str:
        """Take all that the item holds, of which pieces may have come before; returns what had not."""
        before = "".join(self.pieces)
        rest = text[len(before) :] if text.startswith(before) else ""
        if rest:
            self.pieces.append(rest)
        return rest


@dataclass(slots=True, eq=False)
class _Message(_Item):
    pass


@dataclass(slots=True, eq=False)
class _Reasoning(_Item):
    part: object = None
    encrypted_content: str = ""


@dataclass(slots=True, eq=False)
class _FunctionCall(_Item):
    name: str = ""
    call_id: str = ""

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(slots=True, eq=False)
class _Search(_Item):
    """A search that the provider ran.

    What it found is told by the text that cites it, unless the item itself does; so that text waits for its own end.
    """

    query: str = ""
    results: dict[str, str] | None = None  # URL to title


_ItemT = TypeVar("_ItemT", bound=_Item)


class Output:
    """The output of one answer.

    Args:
        writer: Where it goes.
        client_names: The client's name of each tool, by its upstream name.
        ids: Gives call ids out.
        id_prefix: Unique to the answer, for the ids of searches.
        complain: Makes the error for a call that cannot be made, from its name.
        said: Told of every text that came, for counting.

    Attributes:
        called: A call of the client's tools was made.
    """

    def __init__(
        self,
        writer: MessageWriter,
        client_names: Mapping[str, str],
        *,
        ids: AnswerCallIds,
        id_prefix: str,
        complain: Callable[[str], CcrError],
        said: Callable[[str], None],
    ) -> None:
        self.called = False
        self._writer = writer
        self._client_names = client_names
        self._ids = ids
        self._id_prefix = id_prefix
        self._complain = complain
        self._said = said
        self._items: dict[Key, _Item] = {}
        self._line: deque[_Item] = deque()
        self._searches = 0

    # --- events

    def begin(self, key: Key, item: dict[str, Any]) -> None:
        """An item was added; of a reasoning item nothing counts yet, since its encrypted content is a preview."""
        match item.get("type"):
            case "message":
                self._item(key, _Message)
            case "reasoning":
                self._item(key, _Reasoning)
            case "function_call":
                self._named(self._item(key, _FunctionCall), item)
            case "web_search_call":
                self._item(key, _Search)

    def text(self, key: Key, delta: str) -> None:
        """A piece of a message, or of a refusal."""
        self._take(self._item(key, _Message), delta)

    def reasoning(self, key: Key, part: object, delta: str) -> None:
        """A piece of reasoning; a blank line stands between its parts."""
        item = self._item(key, _Reasoning)
        if item.pieces and delta and part != item.part:
            item.pieces.append("\n\n")
        item.part = part if delta else item.part
        self._take(item, delta)

    def arguments(self, key: Key, delta: str) -> None:
        """A piece of a call's arguments."""
        item = self._item(key, _FunctionCall)
        self._take(item, delta if item.pieces else delta.lstrip())

    def arguments_done(self, key: Key, arguments: str) -> None:
        """All of a call's arguments."""
        self._said(self._item(key, _FunctionCall).take_whole(arguments.lstrip()))
        self._advance()

    def done(self, key: Key, item: dict[str, Any]) -> None:
        """An item is complete: what its deltas did not tell, it tells itself.

        Raises:
            CcrError: It is a call whose arguments are no JSON object.
        """
        self.begin(key, item)
        known = self._items.get(key)
        if known is None or known.complete:
            return
        match known:
            case _Message():
                self._message_done(known, item)
            case _Reasoning():
                self._reasoning_done(known, item)
            case _FunctionCall():
                self._call_done(known, item)
            case _Search():
                self._search_done(known, item)
        self._advance()

    def end(self, *, cut_off: bool) -> None:
        """Write all that still waits.

        Args:
            cut_off: The provider ended the answer before the model did, perhaps in the middle of the last call, which
                then is written as far as it came: not at all, if its arguments had not begun.

        Raises:
            CcrError: A call has no name, or its arguments are no JSON object.
        """
        last = self._line[-1] if self._line else None
        while self._line:
            item = self._line.popleft()
            if isinstance(item, _FunctionCall) and not item.complete:
                if cut_off and item is last and (not item.pieces or are_cut(item.arguments)):
                    self._write(item)
                    return
                self._check(item)
            item.complete = True
            self._write(item)
            self._close(item)

    # --- items

    def _item(self, key: Key, kind: type[_ItemT]) -> _ItemT:
        known = self._items.get(key)
        if not isinstance(known, kind):
            known = self._items[key] = kind()
            self._line.append(known)
        return known

    def _take(self, item: _Item, piece: str) -> None:
        if piece and not item.complete:
            item.pieces.append(piece)
            self._said(piece)
            self._advance()

    def _named(self, call: _FunctionCall, item: dict[str, Any]) -> None:
        call.name = call.name or string(item.get("name"))
        call.call_id = call.call_id or string(item.get("call_id"))

    def _message_done(self, message: _Message, item: dict[str, Any]) -> None:
        parts = objects(item, "content")
        self._said(
            message.take_whole("".join(string(part.get("text")) or string(part.get("refusal")) for part in parts))
        )
        message.complete = True
        for part in parts:
            for annotation in objects(part, "annotations"):
                self.cite(annotation)
        self._found_all()

    def _reasoning_done(self, reasoning: _Reasoning, item: dict[str, Any]) -> None:
        if not reasoning.pieces:
            texts = [string(part.get("text")) for key in ("summary", "content") for part in objects(item, key)]
            self._said(reasoning.take_whole("\n\n".join(text for text in texts if text)))
        reasoning.encrypted_content = string(item.get("encrypted_content"))
        reasoning.complete = True

    def _call_done(self, call: _FunctionCall, item: dict[str, Any]) -> None:
        self._named(call, item)
        self._said(call.take_whole(arguments_text(item.get("arguments")).lstrip()))
        if item.get("status") == "incomplete":  # the end of the answer says what becomes of it
            return
        self._check(call)
        call.complete = True

    def _check(self, call: _FunctionCall) -> None:
        if not call.name or arguments_object(call.arguments) is None:
            raise self._complain(call.name)

    # --- searches

    def cite(self, annotation: dict[str, Any]) -> None:
        """The text cites a page: the latest search found it."""
        searches = [item for item in self._line if isinstance(item, _Search)]
        if searches and annotation.get("type") == "url_citation" and (url := string(annotation.get("url"))):
            latest = searches[-1]
            if not latest.complete:
                latest.results = {**(latest.results or {}), url: string(annotation.get("title")) or url}

    def _search_done(self, search: _Search, item: dict[str, Any]) -> None:
        action = mapping(item, "action")
        if action.get("type", "search") != "search":  # a page was opened, or looked through
            self._line.remove(search)
            return
        search.query = string(action.get("query")) or "; ".join(
            query for query in action.get("queries") or () if isinstance(query, str)
        )
        if sources := objects(action, "sources"):
            search.results = {url: url for source in sources if (url := string(source.get("url")))}
            search.complete = True
        for earlier in self._line:
            if isinstance(earlier, _Search) and earlier is not search:
                earlier.complete = True

    def _found_all(self) -> None:
        for item in self._line:
            if isinstance(item, _Search):
                item.complete = True

    # --- writing

    def _advance(self) -> None:
        """Write what can be written: all before the first incomplete item, and that item as far as it goes."""
        while self._line:
            head = self._line[0]
            self._write(head)
            if not head.complete:
                return
            self._line.popleft()
            self._close(head)

    def _write(self, item: _Item) -> None:
        match item:
            case _Message():
                for piece in item.unwritten():
                    self._writer.text(piece)
            case _Reasoning():
                for piece in item.unwritten():
                    self._writer.thinking(piece)
            case _FunctionCall():
                self._write_call(item)

    def _write_call(self, call: _FunctionCall) -> None:
        """Write what has come of the arguments, once the name is known and they are seen to be an object.

        A call is opened when its arguments begin, not when its name is known: one that the token limit cuts off in
        between would look like a call without arguments, which a client runs.
        """
        if call.name and call.pieces and call.pieces[0].startswith("{"):
            if not call.written:
                self._open(call)
            for piece in call.unwritten():
                self._writer.tool_input(piece)

    def _close(self, item: _Item) -> None:
        match item:
            case _Reasoning(encrypted_content=str(encrypted)) if encrypted:
                self._writer.signature(signature_of(encrypted))
            case _FunctionCall() if not item.written:  # nothing came, or arguments in an odd form
                self._open(item)
                self._writer.tool_input(dumps(arguments_object(item.arguments)).decode())
            case _Search() if item.query or item.results:
                self._write_search(item)
        if item.pieces or isinstance(item, _FunctionCall):
            self._writer.close_block()

    def _open(self, call: _FunctionCall) -> None:
        self.called = True
        self._writer.open_tool_use(self._ids.unique(call.call_id), self._client_names.get(call.name, call.name))

    def _write_search(self, search: _Search) -> None:
        use_id = f"srvtoolu_{self._id_prefix}_{self._searches}"
        self._searches += 1
        self._writer.open_tool_use(use_id, WEB_SEARCH, kind="server_tool_use")
        self._writer.tool_input(dumps({"query": search.query}).decode())
        pages = [
            {"type": "web_search_result", "title": title, "url": url, "encrypted_content": "", "page_age": None}
            for url, title in (search.results or {}).items()
        ]
        self._writer.whole_block({"type": "web_search_tool_result", "tool_use_id": use_id, "content": pages})
