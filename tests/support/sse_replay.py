"""One transcript, replayed in every way that a network, a proxy or another server's habits could bring it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from hypothesis import strategies as st


class Machine(Protocol):
    """What a transcript is fed to."""

    def feed(self, chunk: bytes) -> bytes: ...

    def close(self) -> bytes: ...


def events_of(transcript: bytes) -> list[bytes]:
    """The events of a transcript with LF line ends, each with the blank line that ends it."""
    *whole, rest = transcript.split(b"\n\n")
    return [event + b"\n\n" for event in whole] + ([rest] if rest else [])


def whole(transcript: bytes) -> list[bytes]:
    """In one chunk."""
    return [transcript]


def by_event(transcript: bytes) -> list[bytes]:
    """Every event in a chunk of its own, as a model speaks."""
    return events_of(transcript)


def byte_by_byte(transcript: bytes) -> list[bytes]:
    """Every byte in a chunk of its own, with an empty chunk now and then."""
    return [piece for place, byte in enumerate(transcript) for piece in ([b""] * (place % 7 == 0) + [bytes([byte])])]


def with_crlf(transcript: bytes) -> list[bytes]:
    """CRLF line ends, every one of them split over two chunks."""
    return (transcript.replace(b"\n", b"\r\n").replace(b"\r\n", b"\r\0\n")).split(b"\0")


def with_cr(transcript: bytes) -> list[bytes]:
    """CR line ends."""
    return [event.replace(b"\n", b"\r") for event in events_of(transcript)]


def with_comments(transcript: bytes) -> list[bytes]:
    """Comments and unknown fields before and inside every event, and a byte order mark before all."""
    events = [b": keep-alive\n\n: OPENROUTER PROCESSING\nid: 7\nretry: 5\n" + event for event in events_of(transcript)]
    return [b"\xef\xbb\xbf", *events]


def without_spaces(transcript: bytes) -> list[bytes]:
    """`data:` without the space."""
    return [event.replace(b"data: ", b"data:") for event in events_of(transcript)]


def without_last_blank_line(transcript: bytes) -> list[bytes]:
    """The last event is ended by the end of the stream alone."""
    return [transcript.rstrip(b"\n")]


SSE_WAYS: Sequence[Callable[[bytes], list[bytes]]] = (
    whole,
    by_event,
    byte_by_byte,
    with_crlf,
    with_cr,
    with_comments,
    without_spaces,
    without_last_blank_line,
)
"""Ways that change nothing in what a transcript of events says."""

ANY_WAYS: Sequence[Callable[[bytes], list[bytes]]] = (whole, byte_by_byte)
"""Ways that change nothing in any body."""


def replay(machine: Machine, chunks: Iterable[bytes]) -> bytes:
    """Feed the chunks to a machine and close it; returns all that came out."""
    return b"".join([*map(machine.feed, chunks), machine.close()])


def truncated(transcript: bytes) -> Iterator[bytes]:
    """The transcript cut off after each of its events, from none of them to all but the last."""
    events = events_of(transcript)
    return (b"".join(events[:count]) for count in range(len(events)))


@st.composite
def splits(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` cut at any places."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
