"""Content codings undone as the bytes come: gzip, deflate, br and zstd, in pieces of bounded size.

What comes out of one `feed` is yielded piece by piece, so that a small input that unfolds into gigabytes never stands
in memory at once: whoever reads the pieces decides when it is too much.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import brotli

from ccr_asgi.errors import UpstreamError

if TYPE_CHECKING:
    from backports import zstd
else:
    try:
        from compression import zstd  # from Python 3.14 on
    except ImportError:
        from backports import zstd

PIECE_BYTES = 256 * 1024
"""About how much one piece holds at most (br rounds it up to a power of two, and at most doubles it)."""
ZSTD_WINDOW_LOG = 23
"""8 MB, the largest window that a server may ask for on the web (RFC 9659)."""
MAX_CODINGS = 4
"""More codings on top of each other than anybody has a use for."""

_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_ZLIB_WINDOW_BITS = zlib.MAX_WBITS
_RAW_WINDOW_BITS = -zlib.MAX_WBITS


class Decoder(Protocol):
    """Undoes one or more content codings."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` unfolds into, in pieces; consume it before the next call.

        Raises:
            UpstreamError: The bytes are not what their coding says.
        """
        ...

    def close(self) -> None:
        """Check that the stream ended where its coding ends.

        Raises:
            UpstreamError: It was cut off.
        """
        ...


class _Gzip:
    """gzip, also several members in a row; zeros behind one are padding (gzip's manual)."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_WINDOW_BITS)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            while data := data.lstrip(b"\0") if self._inflate.eof else data:
                if self._inflate.eof:
                    self._inflate = zlib.decompressobj(_GZIP_WINDOW_BITS)
                yield from _inflated(self._inflate, data)
                data = self._inflate.unused_data
        except zlib.error as error:
            raise _broken("gzip") from error

    def close(self) -> None:
        if self._begun and not self._inflate.eof:
            raise _cut()


class _Deflate:
    """deflate with its zlib header, or without it, as some servers send it against RFC 9110."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            self._inflate = zlib.decompressobj(_ZLIB_WINDOW_BITS if _is_zlib(data) else _RAW_WINDOW_BITS)
        try:
            yield from _inflated(self._inflate, data)
        except zlib.error as error:
            raise _broken("deflate") from error

    def close(self) -> None:
        if self._head and (self._inflate is None or not self._inflate.eof):
            raise _cut()


def _is_zlib(data: bytes) -> bool:
    """Whether `data` begins with a zlib header (RFC 1950, section 2.2): the method deflate, and a multiple of 31."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0


def _inflated(inflate: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    full = False  # a full piece may leave output behind though all input is read
    while not inflate.eof and (data or full):
        piece = inflate.decompress(data, PIECE_BYTES)
        if piece:
            yield piece
        full = len(piece) == PIECE_BYTES
        data = inflate.unconsumed_tail


class _Brotli:
    def __init__(self) -> None:
        self._inflate = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            while piece := self._inflate.process(data, output_buffer_limit=PIECE_BYTES):
                data = b""
                yield piece
        except brotli.error as error:
            raise _broken("br") from error

    def close(self) -> None:
        if self._begun and not self._inflate.is_finished():
            raise _cut()


class _Zstd:
    """zstd, also several frames in a row."""

    def __init__(self) -> None:
        self._inflate = _zstd_frame()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            while data or not (self._inflate.needs_input or self._inflate.eof):
                if self._inflate.eof:
                    self._inflate = _zstd_frame()
                if piece := self._inflate.decompress(data, PIECE_BYTES):
                    yield piece
                data = self._inflate.unused_data
        except zstd.ZstdError as error:
            raise _broken("zstd") from error

    def close(self) -> None:
        if self._begun and not self._inflate.eof:
            raise _cut()


def _zstd_frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})


class _Chain:
    """Any number of codings, also none, undone in the reverse of the order in which they were put on."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield from self._through(data, 0)

    def _through(self, data: bytes, index: int) -> Iterator[bytes]:
        if index == len(self._decoders):
            if data:
                yield data
            return
        for piece in self._decoders[index].feed(data):
            yield from self._through(piece, index + 1)

    def close(self) -> None:
        for decoder in self._decoders:
            decoder.close()


_CODINGS: Mapping[str, Callable[[], Decoder]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


def decoder(content_encoding: str | None) -> Decoder:
    """A decoder for the value of a content-encoding header; "", "identity" and None stand for none.

    Raises:
        UpstreamError: A coding is not known, or there are more of them than `MAX_CODINGS`.
    """
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if unknown := [name for name in names if name not in _CODINGS]:
        raise UpstreamError(f"The answer has the content-encoding {unknown[0]!r:.50}; known are {', '.join(_CODINGS)}.")
    if len(names) > MAX_CODINGS:
        raise UpstreamError(f"The answer has {len(names)} content-encodings; at most {MAX_CODINGS} are undone.")
    decoders = [_CODINGS[name]() for name in reversed(names)]
    return decoders[0] if len(decoders) == 1 else _Chain(decoders)


def undone(body: bytes, content_encoding: str | None, *, max_bytes: int) -> bytes:
    """A body without its codings, up to `max_bytes`, since a small one may unfold into gigabytes; it may be cut off.

    Raises:
        UpstreamError: It is not what its codings say, or they are none that `decoder` takes.
    """
    plain = bytearray()
    for piece in decoder(content_encoding).feed(body):
        plain += piece
        if len(plain) >= max_bytes:
            break
    return bytes(plain[:max_bytes])


def _broken(coding: str) -> UpstreamError:
    return UpstreamError(f"The answer says that it is compressed with {coding}, and is not.")


def _cut() -> UpstreamError:
    return UpstreamError("The compressed answer was cut off before its end.")
