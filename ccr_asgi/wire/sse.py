"""Server-sent events: an incremental parser of whatever a provider sends, and the encoder of what we send.

The grammar is that of the WHATWG HTML standard, section 9.2.6. Everything is bytes here, so a character that two chunks
share is never cut; whoever reads the data decodes it whole.
"""

from typing import NamedTuple

from ccr_asgi.errors import UpstreamError

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line, or more data in one event, is refused, since it could only be held whole."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One event: its name ("message" if none was given), and its data lines joined by line feeds."""

    name: bytes
    data: bytes


class SSEParser:
    """Cuts a byte stream into events, however it is chunked; time and memory grow with the bytes alone.

    Lines may end in LF, CRLF or CR. Comments and unknown fields are passed over.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._line = bytearray()
        self._after_cr = False
        self._first_line = True
        self._name = b""
        self._data = bytearray()  # every data line with a line feed after it

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes; return the events that end in them.

        Raises:
            UpstreamError: A line, or the data of one event, is longer than `max_line_bytes`.
        """
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the other half of a CRLF whose line has ended already
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *ended, rest = chunk.split(b"\n")
        events = []
        for part in ended:
            self._keep(part)
            if event := self._end_line():
                events.append(event)
        self._keep(rest)
        return events

    def close(self) -> list[ServerSentEvent]:
        """The stream has ended: a last event counts though no blank line follows it."""
        last = [self._end_line(), self._end_event()]
        return [event for event in last if event is not None]

    def _keep(self, part: bytes) -> None:
        self._line += part
        if len(self._line) > self._max_line_bytes:
            raise self._too_long()

    def _end_line(self) -> ServerSentEvent | None:
        line = bytes(self._line)
        self._line.clear()
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._end_event()
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data += value.removeprefix(b" ") + b"\n"
            if len(self._data) > self._max_line_bytes:
                raise self._too_long()
        elif field == b"event":
            self._name = value.removeprefix(b" ")
        return None

    def _end_event(self) -> ServerSentEvent | None:
        event = ServerSentEvent(self._name or b"message", bytes(self._data[:-1])) if self._data else None
        self._name = b""
        self._data.clear()
        return event

    def _too_long(self) -> UpstreamError:
        return UpstreamError(f"The provider sent an event of more than {self._max_line_bytes} bytes.")


def encode(name: str, data: bytes) -> bytes:
    """One event as it is sent; `data` is JSON, and so holds no line end."""
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), data)
