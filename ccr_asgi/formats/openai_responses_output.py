"""The output items of a Responses answer put in order: they may come interleaved, Anthropic's blocks go one by one.

The item at the head of the line is written as it comes. What comes meanwhile for others waits its turn. Items are told
apart by their place, which is their output_index; events of calls carry nothing else that would do.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ccr_asgi.errors import CcrError
from ccr_asgi.formats.answer_machine import mapping, objects, string
from ccr_asgi.formats.message_writer import MessageWriter
from ccr_asgi.formats.openai_reasoning import signature_of
from ccr_asgi.formats.openai_responses_items import FunctionCall, Item, Message, Reasoning, Search, names_of
from ccr_asgi.formats.openai_responses_tools import WEB_SEARCH
from ccr_asgi.formats.tool_arguments import are_cut, arguments_object, arguments_text
from ccr_asgi.formats.tool_names import AnswerCallIds
from ccr_asgi.wire.json_codec import dumps

_KINDS: Mapping[str, type[Item]] = {
    "message": Message,
    "reasoning": Reasoning,
    "function_call": FunctionCall,
    "web_search_call": Search,
}
"""Item types that mean something to a client; others are passed over."""

_ItemT = TypeVar("_ItemT", bound=Item)


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
        self._items: dict[int, Item] = {}
        self._by_name: dict[str, Item] = {}
        self._line: deque[Item] = deque()
        self._searches = 0
        self._ends: Mapping[type[Item], Callable[[Any, dict[str, Any]], None]] = {
            Message: self._message_done,
            Reasoning: self._reasoning_done,
            FunctionCall: self._call_done,
            Search: self._search_done,
        }

    # --- events

    def begin(self, place: int, item: dict[str, Any]) -> None:
        """An item was added; of a reasoning item nothing counts yet, since its encrypted content is a preview."""
        self._told(place, item)

    def text(self, place: int, delta: str) -> None:
        """A piece of a message, or of a refusal."""
        self._take(self._item(place, Message), delta)

    def begin_part(self, place: int) -> None:
        """Another part of the reasoning begins, whatever its number."""
        self._item(place, Reasoning).part = None

    def reasoning(self, place: int, part: object, delta: str) -> None:
        """A piece of reasoning; a blank line stands between its parts."""
        item = self._item(place, Reasoning)
        if delta:
            blank_line = "\n\n" if item.pieces and part != item.part else ""
            item.part = part
            self._take(item, blank_line + delta)

    def arguments(self, place: int, delta: str) -> None:
        """A piece of a call's arguments."""
        item = self._item(place, FunctionCall)
        self._take(item, delta if item.pieces else delta.lstrip())

    def arguments_done(self, place: int, arguments: str) -> None:
        """All of a call's arguments."""
        self._said(self._item(place, FunctionCall).take_whole(arguments.lstrip()))
        self._advance()

    def done(self, place: int, item: dict[str, Any]) -> None:
        """An item is complete: what its deltas did not tell, it tells itself.

        Raises:
            CcrError: It is a call whose arguments are no JSON object.
        """
        if known := self._told(place, item):
            self._complete(known, item)

    def rest(self, output: Iterable[tuple[int, dict[str, Any]]]) -> None:
        """The items of the finished answer, which may repeat what events have told; only the rest of it is new."""
        by_name = dict(self._by_name)
        for place, item in output:
            known = next((by_name[name] for name in names_of(item) if name in by_name), self._items.get(place))
            kind = _KINDS.get(string(item.get("type")))
            if kind is not None and isinstance(known, kind):
                self._complete(known, item)
            else:
                self.done(place, item)

    def end(self, *, cut_off: bool) -> None:
        """Write all that still waits.

        Args:
            cut_off: The provider ended the answer before the model did, perhaps in the middle of a call, which then is
                written as far as it came: not at all, if its arguments had not begun.

        Raises:
            CcrError: A call has no name, or its arguments are no JSON object.
        """
        while self._line:
            item = self._line.popleft()
            if isinstance(item, FunctionCall) and not item.complete:
                if cut_off and (not item.pieces or are_cut(item.arguments)):
                    self._write(item)
                    continue
                self._check(item)
            self._write(item)
            self._close(item)

    # --- items

    def _item(self, place: int, kind: type[_ItemT]) -> _ItemT:
        known = self._items.get(place)
        if not isinstance(known, kind):
            known = self._items[place] = kind()
            self._line.append(known)
        return known

    def _told(self, place: int, told: dict[str, Any]) -> Item | None:
        """The item that an event describes; None if its type means nothing here."""
        kind = _KINDS.get(string(told.get("type")))
        if kind is None:
            return None
        names = names_of(told)
        if place in self._items and self._items[place].is_over(names):  # a server that does not count
            del self._items[place]
        item = self._item(place, kind)
        item.names.update(names)
        for name in names:
            self._by_name.setdefault(name, item)
        if isinstance(item, FunctionCall):
            item.name = item.name or string(told.get("name"))
            item.call_id = item.call_id or string(told.get("call_id"))
        return item

    def _complete(self, known: Item, item: dict[str, Any]) -> None:
        """Take the end of an item; of one that has ended already nothing more is taken."""
        if known.complete:
            return
        self._ends[type(known)](known, item)
        self._advance()

    def _take(self, item: Item, piece: str) -> None:
        if piece and not item.complete:
            item.pieces.append(piece)
            self._said(piece)
            self._advance()

    def _message_done(self, message: Message, item: dict[str, Any]) -> None:
        parts = objects(item, "content")
        self._said(
            message.take_whole("".join(string(part.get("text")) or string(part.get("refusal")) for part in parts))
        )
        message.complete = True
        for part in parts:
            for annotation in objects(part, "annotations"):
                self.cite(annotation)
        self._found_all()

    def _reasoning_done(self, reasoning: Reasoning, item: dict[str, Any]) -> None:
        texts = [string(part.get("text")) for key in ("summary", "content") for part in objects(item, key)]
        self._said(reasoning.take_whole("\n\n".join(text for text in texts if text)))
        reasoning.encrypted_content = string(item.get("encrypted_content"))
        reasoning.complete = True

    def _call_done(self, call: FunctionCall, item: dict[str, Any]) -> None:
        self._said(call.take_whole(arguments_text(item.get("arguments")).lstrip()))
        if item.get("status") == "incomplete":  # the end of the answer says what becomes of it
            return
        self._check(call)
        call.complete = True

    def _check(self, call: FunctionCall) -> None:
        if not call.name or arguments_object(call.arguments) is None:
            raise self._complain(call.name)

    # --- searches

    def cite(self, annotation: dict[str, Any]) -> None:
        """The text cites a page: the latest search found it."""
        searches = [item for item in self._line if isinstance(item, Search)]
        if searches and annotation.get("type") == "url_citation" and (url := string(annotation.get("url"))):
            latest = searches[-1]
            if not latest.complete:
                latest.results = {**(latest.results or {}), url: string(annotation.get("title")) or url}

    def _search_done(self, search: Search, item: dict[str, Any]) -> None:
        action = mapping(item, "action")
        if action.get("type", "search") != "search":  # a page was opened, or looked through
            self._line.remove(search)
            search.complete = True
            return
        queries = action.get("queries")
        queries = queries if isinstance(queries, list) else []
        search.query = string(action.get("query")) or "; ".join(filter(None, map(string, queries)))
        if sources := objects(action, "sources"):
            search.results = {url: url for source in sources if (url := string(source.get("url")))}
            search.complete = True
        for earlier in self._line:
            if isinstance(earlier, Search) and earlier is not search:
                earlier.complete = True

    def _found_all(self) -> None:
        for item in self._line:
            if isinstance(item, Search):
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

    def _write(self, item: Item) -> None:
        match item:
            case Message():
                for piece in item.unwritten():
                    self._writer.text(piece)
            case Reasoning():
                for piece in item.unwritten():
                    self._writer.thinking(piece)
            case FunctionCall():
                self._write_call(item)

    def _write_call(self, call: FunctionCall) -> None:
        """Write what has come of the arguments, once the name is known and they are seen to be an object.

        A call is opened when its arguments begin, not when its name is known: one that the token limit cuts off in
        between would look like a call without arguments, which a client runs.
        """
        if call.name and call.pieces and call.pieces[0].startswith("{"):
            if not call.written:
                self._open(call)
            for piece in call.unwritten():
                self._writer.tool_input(piece)

    def _close(self, item: Item) -> None:
        match item:
            case Reasoning(encrypted_content=str(encrypted)) if encrypted:
                self._writer.signature(signature_of(encrypted))
            case FunctionCall() if not item.written:  # nothing came, or arguments in an odd form
                self._open(item)
                self._writer.tool_input(dumps(arguments_object(item.arguments)).decode())
            case Search() if item.query or item.results:
                self._write_search(item)
        if item.pieces or isinstance(item, FunctionCall):
            self._writer.close_block()

    def _open(self, call: FunctionCall) -> None:
        self.called = True
        self._writer.open_tool_use(self._ids.unique(call.call_id), self._client_names.get(call.name, call.name))

    def _write_search(self, search: Search) -> None:
        use_id = f"srvtoolu_{self._id_prefix}_{self._searches}"
        self._searches += 1
        self._writer.open_tool_use(use_id, WEB_SEARCH, kind="server_tool_use")
        self._writer.tool_input(dumps({"query": search.query}).decode())
        pages = [
            {"type": "web_search_result", "title": title, "url": url, "encrypted_content": "", "page_age": None}
            for url, title in (search.results or {}).items()
        ]
        self._writer.whole_block({"type": "web_search_tool_result", "tool_use_id": use_id, "content": pages})
