"""Content codings undone as the bytes come: gzip, deflate, br and zstd, in pieces of bounded size.

What comes out of one `feed` is yielded piece by piece, so that a small input that unfolds into gigabytes never stands
in memory at once: whoever reads the pieces decides when it is too much.
"""

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli

from ccr_asgi.errors import UpstreamError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES = 256 * 1024
"""About how much one piece holds at most (br rounds it up to a power of two, and at most doubles it)."""
ZSTD_WINDOW_LOG = 23
"""8 MB, the largest window that a server may ask for on the web (RFC 9659)."""


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


class _Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data

    def close(self) -> None:
        pass


class _Zlib:
    """gzip (also several members in a row), and deflate with or without its zlib header."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._window_bits = GZIP if coding == "gzip" else DEFLATE
        self._inflate = zlib.decompressobj(self._window_bits)
        self._held = b""
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        data = self._held + data
        if not self._begun:
            self._held = data
            if len(data) < 2:
                return
            self._begin(data)
        try:
            while data:
                if piece := self._inflate.decompress(data, PIECE_BYTES):
                    yield piece
                data = self._inflate.unconsumed_tail
                if self._inflate.eof:
                    data = self._inflate.unused_data if self._coding == "gzip" else b""
                    self._inflate = zlib.decompressobj(self._window_bits) if data else self._inflate
        except zlib.error as error:
            raise _broken(self._coding) from error

    def _begin(self, data: bytes) -> None:
        self._begun = True
        self._held = b""
        # Some servers send deflate without the zlib header that RFC 9110 asks for (RFC 1950 tells how one looks).
        if self._coding == "deflate" and (data[0] & 0x0F != 8 or (data[0] << 8 | data[1]) % 31):
            self._window_bits = -DEFLATE
            self._inflate = zlib.decompressobj(self._window_bits)

    def close(self) -> None:
        if self._held or (self._begun and not self._inflate.eof):
            raise _cut()


GZIP = 16 + zlib.MAX_WBITS
DEFLATE = zlib.MAX_WBITS


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
    def __init__(self) -> None:
        self._inflate = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            while data or not (self._inflate.needs_input or self._inflate.eof):
                if piece := self._inflate.decompress(data, PIECE_BYTES):
                    yield piece
                data = b""
                if self._inflate.eof and self._inflate.unused_data:  # several frames in a row
                    data = self._inflate.unused_data
                    self._inflate = zstd.ZstdDecompressor(
                        options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
                    )
        except zstd.ZstdError as error:
            raise _broken("zstd") from error

    def close(self) -> None:
        if self._begun and not self._inflate.eof:
            raise _cut()


class _Chain:
    """Several codings, undone in the reverse of the order in which they were put on."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield from self._through(data, 0)

    def _through(self, data: bytes, index: int) -> Iterator[bytes]:
        if index == len(self._decoders):
            yield data
            return
        for piece in self._decoders[index].feed(data):
            yield from self._through(piece, index + 1)

    def close(self) -> None:
        for decoder in self._decoders:
            decoder.close()


_CODINGS: dict[str, Callable[[], Decoder]] = {
    "": _Identity,
    "identity": _Identity,
    "gzip": lambda: _Zlib("gzip"),
    "x-gzip": lambda: _Zlib("gzip"),
    "deflate": lambda: _Zlib("deflate"),
    "br": _Brotli,
    "zstd": _Zstd,
}


def decoder(content_encoding: str | None) -> Decoder:
    """A decoder for the value of a content-encoding header; "" and None stand for none.

    Raises:
        UpstreamError: A coding is not known.
    """
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    unknown = [name for name in names if name not in _CODINGS]
    if unknown:
        known = ", ".join(name for name in _CODINGS if name)
        raise UpstreamError(f"The answer has the content-encoding {unknown[0]!r:.50}; known are {known}.")
    decoders = [_CODINGS[name]() for name in reversed(names)]
    return decoders[0] if len(decoders) == 1 else _Chain(decoders)


def _broken(coding: str) -> UpstreamError:
    return UpstreamError(f"The answer says that it is compressed with {coding}, and is not.")


def _cut() -> UpstreamError:
    return UpstreamError("The compressed answer was cut off before its end.")
