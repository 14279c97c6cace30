"""What a fake upstream says: an `Answer` is a list of pieces, and a fault is a piece like any other.

Answer(body=[b"abc", b"def"])                       content-length: 6
Answer(body=[b"abc", gate, b"def"])                 the same, but waits for the test after the first three bytes
Answer(body=[b"abc", Fault.CLOSE, b"def"])          declares six bytes, sends three, closes
Answer(body=[b"abc", Fault.RESET], framing="chunked")
Answer.raw(b"HTTP/1.1 200 OK\\r\\ncont", Fault.CLOSE)   the bytes on the wire, as they are
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Literal

import brotli
import zstandard

from tests.support.signals import Gate

Framing = Literal["content-length", "chunked", "until-close", "raw"]
Encoding = Literal["gzip", "br", "zstd", "deflate"]
Headers = Sequence[tuple[str | bytes, str | bytes]]


class Fault(Enum):
    """Where an answer goes wrong."""

    CLOSE = auto()
    """The connection is closed (FIN) here, whatever was promised."""
    RESET = auto()
    """The connection is reset (RST) here."""
    SILENCE = auto()
    """Nothing more is said until the peer leaves."""


@dataclass(frozen=True, slots=True)
class Delay:
    """A pause, for the few tests whose subject is time itself."""

    seconds: float


Piece = bytes | Gate | Delay | Fault


@dataclass(frozen=True)
class Answer:
    """One scripted HTTP answer; every `bytes` piece is written by itself, and is a chunk of its own if chunked.

    Attributes:
        body: The pieces of the body, or all of it as bytes.
        headers: The exact header list, in order; only the framing's own header is added after it.
        framing: How the end of the body is told; "raw" sends the pieces as the whole answer, head included.
        then_close: Close the idle connection after the answer, though nothing said so (a stale keep-alive).
    """

    body: Iterable[Piece] | bytes = b""
    status: int = 200
    headers: Headers = ()
    framing: Framing = "content-length"
    then_close: bool = False
    reason: str | None = None
    pieces: list[Piece] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pieces: list[Piece] = [self.body] if isinstance(self.body, bytes) else list(self.body)
        object.__setattr__(self, "pieces", pieces)

    @classmethod
    def raw(cls, *pieces: Piece, then_close: bool = False) -> "Answer":
        """The pieces exactly, with no status line or header but what they hold."""
        return cls(pieces, framing="raw", then_close=then_close)

    @property
    def content(self) -> bytes:
        """The body's bytes as they are sent when nothing goes wrong."""
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this answer."""
        return self.then_close or self.framing == "until-close"

    def inserting(self, index: int, *pieces: Piece) -> "Answer":
        """The same answer with `pieces` (gates, faults) before the piece at `index`; -1 is before the last one."""
        body = list(self.pieces)
        body[index:index] = pieces
        return replace(self, body=body)

    def with_headers(self, *headers: tuple[str | bytes, str | bytes]) -> "Answer":
        """The same answer with more headers after its own."""
        return replace(self, headers=[*self.headers, *headers])

    def compressed(self, encoding: Encoding) -> "Answer":
        """The same answer with its body compressed, flushed after every piece so that each can be read at once."""
        compress, finish = _COMPRESSORS[encoding]()
        body: list[Piece] = [compress(piece) if isinstance(piece, bytes) else piece for piece in self.pieces]
        return replace(self, body=[*body, finish()]).with_headers(("content-encoding", encoding))

    def wire(self, method: str) -> Iterator[Piece]:
        """What happens on the socket, step by step, in answer to a request of this method."""
        if self.framing == "raw":
            yield from self.pieces
            return
        yield self._head()
        if method == "HEAD" or self.status in (204, 304):
            return
        for piece in self.pieces:
            if isinstance(piece, bytes) and self.framing == "chunked":
                if piece:  # an empty chunk would end the body
                    yield b"%x\r\n%b\r\n" % (len(piece), piece)
            else:
                yield piece
        if self.framing == "chunked":
            yield b"0\r\n\r\n"

    def _head(self) -> bytes:
        reason = self.reason if self.reason is not None else _reason(self.status)
        lines = [f"HTTP/1.1 {self.status} {reason}".encode("latin-1")]
        lines += [_bytes(name) + b": " + _bytes(value) for name, value in self.headers]
        if self.framing == "chunked":
            lines.append(b"transfer-encoding: chunked")
        elif self.framing == "content-length" and self.status not in (204, 304):
            lines.append(b"content-length: %d" % len(self.content))
        elif self.framing == "until-close":
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"


def json_answer(document: Any, status: int = 200, headers: Headers = ()) -> Answer:
    """A JSON document with a content-length."""
    return Answer(json.dumps(document).encode(), status, [("content-type", "application/json"), *headers])


def sse_answer(events: Iterable[Piece], headers: Headers = ()) -> Answer:
    """A chunked event stream: a piece for each event."""
    return Answer(events, headers=[("content-type", "text/event-stream; charset=utf-8"), *headers], framing="chunked")


def in_pieces(data: bytes, size: int = 1) -> list[Piece]:
    """`data` cut into pieces of `size` bytes, for answers that drip."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 529 is Anthropic's own
        return "Unknown"


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


_Codec = tuple[Callable[[bytes], bytes], Callable[[], bytes]]


def _zlib(window_bits: int) -> _Codec:
    machine = zlib.compressobj(wbits=window_bits)
    return lambda data: machine.compress(data) + machine.flush(zlib.Z_SYNC_FLUSH), machine.flush


def _brotli() -> _Codec:
    machine = brotli.Compressor()
    return lambda data: machine.process(data) + machine.flush(), machine.finish


def _zstd() -> _Codec:
    machine = zstandard.ZstdCompressor().compressobj()
    return lambda data: machine.compress(data) + machine.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK), machine.flush


_COMPRESSORS: dict[Encoding, Callable[[], _Codec]] = {
    "gzip": lambda: _zlib(31),  # 16 + 15: a gzip header and trailer
    "deflate": lambda: _zlib(15),  # RFC 9110 means the zlib format
    "br": _brotli,
    "zstd": _zstd,
}
