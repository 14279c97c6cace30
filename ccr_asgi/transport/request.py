"""The bytes of a request as HTTP/1.1 writes it (RFC 9112): no I/O."""

import re
from collections.abc import AsyncIterable, AsyncIterator

import httpx

from ccr_asgi.errors import RawHeaders

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(rb"[^\x00\r\n]*")
_TARGET = re.compile(rb"[^\x00-\x20\x7f]+")


def request_head(
    request: httpx.Request, whole: bytes | None, absolute_form: tuple[bytes, RawHeaders] = (b"", ())
) -> tuple[bytes, int | None]:
    """The head of `request` as it is sent, and the length in bytes of its body (None: chunked).

    Args:
        request: Its fields go out in their order and spelling, every one.
        whole: The body, if it is there already; None for one that is streamed.
        absolute_form: What goes before the target and which fields are added, for a request through a proxy.

    Raises:
        httpx.LocalProtocolError: It would not be one well-formed request on the wire.
    """
    prefix, proxy_fields = absolute_form
    fields = request.headers.raw
    if not any(name.lower() == b"host" for name, _ in fields):
        fields = [(b"Host", request.url.netloc), *fields]
    length, framing = _framing(fields, whole)
    fields = [*fields, *framing, *proxy_fields]
    method = request.method.encode("latin-1", "replace")
    target = prefix + request.extensions.get("target", request.url.raw_path)
    if not (
        _TOKEN.fullmatch(method)
        and _TARGET.fullmatch(target)
        and all(_TOKEN.fullmatch(name) and _FIELD_VALUE.fullmatch(value) for name, value in fields)
    ):
        raise httpx.LocalProtocolError("The request's head holds a character that HTTP/1.1 does not allow there")
    lines = [method + b" " + target + b" HTTP/1.1", *[name + b": " + value for name, value in fields]]
    return b"\r\n".join(lines) + b"\r\n\r\n", length


async def framed(head: bytes, body: AsyncIterable[bytes], length: int | None) -> AsyncIterator[bytes]:
    """A whole request in pieces: `head`, then `body`, which is `length` bytes long (None: chunked).

    Raises:
        httpx.LocalProtocolError: The body turned out longer or shorter. None of what is too much has been yielded.
    """
    yield head
    left = 0 if length is None else length
    async for chunk in body:
        if length is not None:
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        elif chunk:  # an empty chunk would be the last
            yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    if left != 0:
        raise httpx.LocalProtocolError("The request's body is not as long as its Content-Length says")
    if length is None:
        yield b"0\r\n\r\n"


def _framing(fields: RawHeaders, whole: bytes | None) -> tuple[int | None, RawHeaders]:
    """The length of the body (None: chunked), and the field to add if none of `fields` tells it."""
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    # Two of them are how requests are smuggled (RFC 9112, section 11.2).
    if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]) or not all(map(bytes.isdigit, lengths)):
        raise httpx.LocalProtocolError("The request's Content-Length or Transfer-Encoding is not one clear length")
    if codings:
        return None, []
    if lengths:
        length = int(lengths[0])
        if whole is not None and len(whole) != length:
            raise httpx.LocalProtocolError("The request's Content-Length is not the length of its body")
        return length, []
    if whole is None:
        return None, [(b"Transfer-Encoding", b"chunked")]
    return len(whole), [(b"Content-Length", b"%d" % len(whole))] if whole else []
