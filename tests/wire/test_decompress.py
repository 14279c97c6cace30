"""Content codings undone: whole, in single bytes, chained, cut off, broken, and as bombs."""

import gzip
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import UpstreamError
from ccr_asgi.wire.decompress import MAX_CODINGS, PIECE_BYTES, ZSTD_WINDOW_LOG, decoder, undone

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush()


COMPRESS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "zlib-deflate": ("deflate", zlib.compress),
    "raw-deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "none": ("", bytes),
    "identity": ("identity", bytes),
}
codings = pytest.mark.parametrize("name", COMPRESS)
real_codings = pytest.mark.parametrize("name", [name for name in COMPRESS if name not in ("none", "identity")])
TEXT = b'data: {"choices": [{"delta": {"content": "words"}}]}\n\n' * 20


def unfold(coding: str | None, *chunks: bytes) -> bytes:
    """All that the chunks unfold into; checks that they end where their coding does."""
    undo = decoder(coding)
    out = b"".join(piece for chunk in chunks for piece in undo.feed(chunk))
    undo.close()
    return out


def bytewise(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


@codings
def test_every_coding_is_undone_whole_and_in_single_bytes(name: str) -> None:
    coding, compress = COMPRESS[name]
    packed = compress(TEXT)
    assert unfold(coding, packed) == unfold(coding, *bytewise(packed)) == TEXT
    assert unfold(coding.upper(), b"", packed, b"") == TEXT


@codings
def test_an_answer_without_a_body_is_no_error(name: str) -> None:
    assert unfold(COMPRESS[name][0]) == unfold(COMPRESS[name][0], b"") == b""


@codings
def test_an_empty_text_unfolds_into_nothing(name: str) -> None:
    coding, compress = COMPRESS[name]
    assert unfold(coding, compress(b"")) == b""


def test_no_header_at_all_means_no_coding() -> None:
    assert unfold(None, b"a", b"b") == b"ab"


def _flushed_zlib(window_bits: int) -> tuple[bytes, bytes]:
    deflate = zlib.compressobj(wbits=window_bits)
    first = deflate.compress(b"event one") + deflate.flush(zlib.Z_SYNC_FLUSH)
    return first, deflate.compress(b"event two") + deflate.flush()


def _flushed_br() -> tuple[bytes, bytes]:
    compressor = brotli.Compressor()
    first = compressor.process(b"event one") + compressor.flush()
    return first, compressor.process(b"event two") + compressor.finish()


def _flushed_zstd() -> tuple[bytes, bytes]:
    compressor = zstd.ZstdCompressor()
    first = compressor.compress(b"event one", mode=compressor.FLUSH_BLOCK)
    return first, compressor.compress(b"event two", mode=compressor.FLUSH_FRAME)


FLUSHED: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "gzip": lambda: _flushed_zlib(31),
    "deflate": lambda: _flushed_zlib(15),
    "br": _flushed_br,
    "zstd": _flushed_zstd,
}


@pytest.mark.parametrize("coding", FLUSHED)
def test_what_was_flushed_comes_out_at_once(coding: str) -> None:
    first, rest = FLUSHED[coding]()
    undo = decoder(coding)
    assert b"".join(undo.feed(first)) == b"event one"
    assert b"".join(undo.feed(rest)) == b"event two"
    undo.close()


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_several_members_in_a_row_are_one_answer(coding: str, compress: Callable[[bytes], bytes]) -> None:
    members = [compress(b"one "), compress(b""), compress(b"two")]
    packed = b"".join(members)
    assert unfold(coding, packed) == unfold(coding, *members) == unfold(coding, *bytewise(packed)) == b"one two"


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_a_second_member_that_is_cut_off_is_an_error(coding: str, compress: Callable[[bytes], bytes]) -> None:
    with pytest.raises(UpstreamError, match="cut off"):
        unfold(coding, compress(b"one"), compress(b"two")[:-2])


def test_zeros_behind_gzip_are_padding() -> None:
    packed = gzip.compress(b"one") + bytes(9)
    assert unfold("gzip", packed) == unfold("gzip", *bytewise(packed)) == b"one"
    assert unfold("gzip", packed, gzip.compress(b" two")) == b"one two"


def test_what_follows_deflate_is_left_alone() -> None:
    assert unfold("deflate", zlib.compress(b"one") + b"rest", b"more") == b"one"


def test_a_skippable_zstd_frame_is_skipped() -> None:
    assert unfold("zstd", b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd.compress(b"one")) == b"one"


@real_codings
def test_a_cut_answer_is_an_error_wherever_it_was_cut(name: str) -> None:
    coding, compress = COMPRESS[name]
    packed = compress(TEXT)
    for length in range(1, len(packed)):
        with pytest.raises(UpstreamError, match="cut off"):
            unfold(coding, packed[:length])


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("junk", [b"data: {}\n\n" * 9, b"\x78\x9c" + b"\xff" * 40, b"\xff" * 40])
def test_bytes_that_are_not_of_their_coding_are_an_error_that_names_it(coding: str, junk: bytes) -> None:
    with pytest.raises(UpstreamError, match=f"compressed with {coding}, and is not|cut off"):
        unfold(coding, junk)


@pytest.mark.parametrize(("coding", "packed"), [("gzip", gzip.compress(TEXT, mtime=0)), ("zstd", zstd.compress(TEXT))])
def test_rubbish_behind_the_end_is_an_error(coding: str, packed: bytes) -> None:
    with pytest.raises(UpstreamError, match=coding):
        unfold(coding, packed, b"rubbish rubbish rubbish")


def test_a_wrong_checksum_is_an_error() -> None:
    packed = bytearray(gzip.compress(TEXT, mtime=0))
    packed[-6] ^= 1
    with pytest.raises(UpstreamError, match="gzip"):
        unfold("gzip", bytes(packed))


@real_codings
def test_a_bomb_comes_in_bounded_pieces(name: str) -> None:
    coding, compress = COMPRESS[name]
    length = 8 * 1024 * 1024
    pieces = decoder(coding).feed(compress(bytes(length)))
    sizes = [len(piece) for piece in pieces]
    assert sum(sizes) == length
    assert max(sizes) <= 2 * PIECE_BYTES


def test_a_bomb_is_unfolded_no_further_than_it_is_asked_for() -> None:
    pieces = decoder("gzip").feed(gzip.compress(bytes(64 * 1024 * 1024)))
    assert len(next(pieces)) <= PIECE_BYTES


@pytest.mark.parametrize("extra", [-1, 0, 1, 21, 22, 100, 257, 258, 259, 600])
@pytest.mark.parametrize("name", ["gzip", "zlib-deflate", "raw-deflate"])
def test_what_zlib_still_holds_when_a_piece_is_full_is_not_lost(name: str, extra: int) -> None:
    coding, compress = COMPRESS[name]
    plain = bytes(PIECE_BYTES + extra)
    assert unfold(coding, compress(plain)) == plain


def test_a_zstd_window_that_is_too_large_for_the_web_is_refused() -> None:
    parameter = zstd.CompressionParameter
    data = bytes(range(256)) * 4
    for window_log, accepted in ((ZSTD_WINDOW_LOG, True), (ZSTD_WINDOW_LOG + 1, False)):
        compressor = zstd.ZstdCompressor(options={parameter.window_log: window_log})
        packed = compressor.compress(data) + compressor.flush()
        if accepted:
            assert unfold("zstd", packed) == data
        else:
            with pytest.raises(UpstreamError, match="zstd"):
                unfold("zstd", packed)


@pytest.mark.parametrize("separator", [",", ", ", " ,\t"])
def test_chained_codings_are_undone_in_reverse(separator: str) -> None:
    packed = zstd.compress(brotli.compress(gzip.compress(TEXT, mtime=0)))
    header = separator.join(["gzip", "identity", "Br", "", "zstd"])
    assert unfold(header, packed) == unfold(header, *bytewise(packed)) == TEXT


def test_a_chain_that_is_cut_off_inside_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="cut off"):
        unfold("gzip, br", brotli.compress(gzip.compress(TEXT, mtime=0)[:-3]))


def test_a_chained_bomb_comes_in_bounded_pieces() -> None:
    packed = gzip.compress(gzip.compress(bytes(16 * 1024 * 1024)))
    sizes = [len(piece) for piece in decoder("gzip, gzip").feed(packed)]
    assert sum(sizes) == 16 * 1024 * 1024
    assert max(sizes) <= PIECE_BYTES


@pytest.mark.parametrize("header", ["compress", "gzip, lzma", "gzip;q=1", "x" * 5000])
def test_an_unknown_coding_is_refused_by_name(header: str) -> None:
    with pytest.raises(UpstreamError, match="known are gzip, x-gzip, deflate, br, zstd") as caught:
        decoder(header)
    assert len(caught.value.message) < 200


def test_too_many_codings_are_refused() -> None:
    decoder(", ".join(["gzip"] * MAX_CODINGS))
    with pytest.raises(UpstreamError, match=f"at most {MAX_CODINGS}"):
        decoder(", ".join(["gzip"] * (MAX_CODINGS + 1)))


@codings
@pytest.mark.parametrize(("length", "cut"), [(10, 0), (30_000, 1)])
def test_the_beginning_of_a_body_is_undone(name: str, length: int, cut: int) -> None:
    header, compress = COMPRESS[name]
    data = b"".join(b"%d" % (number * number) for number in range(length))
    assert undone(compress(data)[: -cut or None], header, max_bytes=1000) == data[:1000]


@settings(deadline=None)
@given(st.sampled_from(sorted(COMPRESS)), st.binary(max_size=400), st.lists(st.integers(0, 500), max_size=6))
def test_any_text_survives_however_it_is_cut(name: str, data: bytes, places: list[int]) -> None:
    coding, compress = COMPRESS[name]
    packed = compress(data)
    cuts = [0, *sorted(min(place, len(packed)) for place in places), len(packed)]
    assert unfold(coding, *[packed[start:end] for start, end in pairwise(cuts)]) == data


@settings(deadline=None)
@given(st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, br"]), st.lists(st.binary(max_size=50)))
def test_any_bytes_give_text_or_our_error(coding: str, chunks: list[bytes]) -> None:
    with suppress(UpstreamError):
        unfold(coding, *chunks)
