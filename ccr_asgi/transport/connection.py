"""Sockets: each belongs to one answer at a time, or rests until the next request to the same origin."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

import httpx


class Origin(NamedTuple):
    """Whom a connection speaks to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> "Origin":
        """The origin of `url`.

        Raises:
            httpx.UnsupportedProtocol: Its scheme is another than http and https, or it names no host.
        """
        default_port = {"http": 80, "https": 443}.get(url.scheme)
        if default_port is None or not url.host:
            raise httpx.UnsupportedProtocol("The URL must begin with http:// or https:// and name a host")
        return cls(url.scheme, url.raw_host.decode("ascii"), url.port or default_port)

    @property
    def peer(self) -> str:
        """`host:port`, as CONNECT and our messages call it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Reader(Protocol):
    """What a connection's bytes and its end are told to."""

    def feed(self, data: bytes) -> None:
        """Take what arrived."""

    def end(self, error: Exception | None) -> None:
        """Nothing more will arrive: by `error`, or in an orderly way."""


@dataclass
class Pool:
    """The connections of one event loop: all that are open, and for each origin those at rest, the latest last.

    There is no limit to their number: a stalled stream must not keep another request from being sent.
    """

    keepalive_s: float
    open: set["Connection"] = field(default_factory=set)
    resting: defaultdict[Origin, list["Connection"]] = field(default_factory=lambda: defaultdict(list))
    closed: bool = False

    def take(self, origin: Origin) -> "Connection | None":
        """A connection to `origin` that was at rest, if there is one."""
        while resting := self.resting[origin]:
            connection = resting[-1]
            connection.rouse()
            if not connection.transport.is_closing():
                return connection
        return None

    def close(self) -> None:
        """Close every connection, now and in future."""
        self.closed = True
        for connection in tuple(self.open):
            connection.transport.abort()


class Connection(asyncio.Protocol):
    """One socket to one `origin`.

    Attributes:
        transport: asyncio's side of it.
        reader: Whom the bytes are for; None while it rests.
        reading: Not told to wait.
        writable: Set while the kernel has taken all that was written.
    """

    transport: asyncio.Transport

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.origin = origin
        self.reader: Reader | None = None
        self.reading = True
        self.writable = asyncio.Event()
        self.writable.set()
        self._pool = pool
        self._expiry: asyncio.TimerHandle | None = None

    def pause_reading(self) -> None:
        """Make the upstream wait."""
        if self.reading and not self.transport.is_closing():
            self.reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the upstream go on."""
        if not self.reading and not self.transport.is_closing():
            self.reading = True
            self.transport.resume_reading()

    def release(self, *, reusable: bool) -> None:
        """Part from the reader, and rest if `reusable`."""
        self.reader = None
        if not reusable or self.transport.is_closing():
            self.transport.abort()  # close() would wait until the peer has read what we could not send
            return
        self._pool.resting[self.origin].append(self)
        self._expiry = asyncio.get_running_loop().call_later(self._pool.keepalive_s, self.transport.abort)

    def rouse(self) -> None:
        """End the rest, if it rests."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
            self._pool.resting[self.origin].remove(self)

    # Called by the event loop (asyncio.Protocol)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self.transport = cast(asyncio.Transport, transport)
        # "Writable" shall mean that nothing is left in our buffers. (With high=0 asyncio's TLS would never resume.)
        self.transport.set_write_buffer_limits(high=1, low=0)
        self._pool.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._pool.open.discard(self)
        self.rouse()
        if self.reader is not None:
            self.reader.end(exc)

    def data_received(self, data: bytes) -> None:
        """Something arrived."""
        if self.reader is not None:
            self.reader.feed(data)
        else:
            # Nobody asked for this. Kept, it would be taken for the answer to the next request.
            self.transport.abort()

    def eof_received(self) -> None:
        """The peer will send no more."""
        if self.reader is not None:
            self.reader.end(None)
        self.transport.abort()

    def pause_writing(self) -> None:
        """The kernel could not take all that was written."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """The kernel has taken all that was written."""
        self.writable.set()
