"""An HTTP client made of a socket: it sends the bytes it is given, and gives back the bytes it got.

Blocking and for tests only. Every read ends when what it waits for is there, never after a time.
"""

import json
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.signals import PATIENCE_S


@dataclass(frozen=True)
class RawHead:
    """A status line and header fields as they came."""

    status: int
    reason: str
    headers: list[tuple[bytes, bytes]]
    raw: bytes

    def header(self, name: str) -> bytes | None:
        """The first value of a header field, found without regard to case."""
        wanted = name.lower().encode()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


@dataclass(frozen=True)
class RawResponse:
    """A whole answer; `body` is without its framing, still compressed if it was."""

    head: RawHead
    body: bytes

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header fields in their order and spelling."""
        return self.head.headers

    def header(self, name: str) -> bytes | None:
        """The first value of a header field, found without regard to case."""
        return self.head.header(name)

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class RawClient:
    """One connection to `url`'s host and port.

    Args:
        receive_buffer: SO_RCVBUF in bytes: a small one makes a client that soon stops the server's writing.
    """

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE_S)
        try:
            self._socket.connect((parts.hostname or "", parts.port or 80))
        except OSError:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send exactly these bytes."""
        self._socket.sendall(data)

    def send_request(
        self, method: str, target: str, headers: list[tuple[str, str]] | None = None, body: bytes = b""
    ) -> None:
        """Send a request with Host first, then `headers` as they are, then content-length if there is a body."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in headers or []]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def request(
        self, method: str, target: str, headers: list[tuple[str, str]] | None = None, body: bytes = b""
    ) -> RawResponse:
        """Send a request and read its answer."""
        self.send_request(method, target, headers, body)
        return self.read_response(method)

    def read_response(self, method: str = "GET") -> RawResponse:
        """Read one answer; interim ones (1xx) are passed over."""
        head = self.read_head()
        while head.status < 200:
            head = self.read_head()
        without_body = method == "HEAD" or head.status in (204, 304)
        return RawResponse(head, b"" if without_body else self.read_body(head))

    def read_head(self) -> RawHead:
        """Read up to the end of a head.

        Raises:
            EOFError: The server closed before its end; the argument holds what had come.
        """
        raw = self.read_until(b"\r\n\r\n")
        status_line, *lines = raw[:-4].split(b"\r\n")
        _, status, *reason = status_line.split(b" ", 2)
        fields = [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
        return RawHead(int(status), b" ".join(reason).decode("latin-1"), fields, raw)

    def read_body(self, head: RawHead) -> bytes:
        """Read a body to its end, by the framing that its head tells.

        Raises:
            EOFError: The server closed before its end; the argument holds what had come of the last part.
        """
        if head.header("transfer-encoding") is not None:
            body = bytearray()
            while piece := self.read_chunk():
                body += piece
            return bytes(body)
        length = head.header("content-length")
        return self.read_to_end() if length is None else self.read_exactly(int(length))

    def read_chunk(self) -> bytes:
        """Read one chunk of a chunked body; empty at its end."""
        size = int(self.read_until(b"\r\n").partition(b";")[0], 16)
        chunk = self.read_exactly(size)
        self.read_exactly(2)
        return chunk

    def read_until(self, end: bytes) -> bytes:
        """Read up to and including `end`."""
        while (found := self._unread.find(end)) < 0:
            self._receive()
        return self.read_exactly(found + len(end))

    def read_exactly(self, size: int) -> bytes:
        """Read this many bytes."""
        while len(self._unread) < size:
            self._receive()
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    def read_to_end(self) -> bytes:
        """Read until the server closes; a ConnectionResetError if it resets."""
        try:
            while True:
                self._receive()
        except EOFError:
            rest = bytes(self._unread)
            self._unread.clear()
            return rest

    def is_closed_by_server(self) -> bool:
        """Wait for the server to close or reset; False if it says something instead."""
        try:
            return not self._unread and self._socket.recv(1, socket.MSG_PEEK) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """Close the connection (FIN)."""
        self._socket.close()

    def reset(self) -> None:
        """Close the connection with a reset (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _receive(self) -> None:
        data = self._socket.recv(262_144)
        if not data:
            raise EOFError(bytes(self._unread))
        self._unread += data


def fetch(
    url: str, method: str = "GET", headers: list[tuple[str, str]] | None = None, body: bytes = b""
) -> RawResponse:
    """One request on a connection of its own; the URL's path and query are the target, byte by byte."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with RawClient(url) as client:
        return client.request(method, target, headers, body)
