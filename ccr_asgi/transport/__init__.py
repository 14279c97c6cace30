"""What carries requests to the upstreams: HTTP/1.1 on asyncio and httptools, behind httpx's transport interface.

Requests go out and answers come back byte for byte; nothing is decompressed, followed, retried or remembered. Why this
is no ready-made client is told, with the numbers, in docs/adr/0001-http-client.md.

    http11.py      Http11Transport: one request, one answer            (an `httpx.AsyncBaseTransport`)
    request.py     the request's bytes: head and framing; no I/O
    dial.py        Dialer: name, socket, proxy, TLS
    connection.py  Pool and Connection: flow control, and rest between two requests  (an `asyncio.Protocol`)
    answer.py      Answer: body out, answer in, silence timed                        (an `httpx.AsyncByteStream`)

What is raised, all of it from httpx's tree:

    ConnectError, ConnectTimeout             no connection came about                                 safe to resend
    ReadError                                the connection ended before one byte of an answer        safe to resend
    RemoteProtocolError                      the answer was cut short, or cannot be understood
    ReadTimeout                              the upstream was silent for `idle_timeout_s`
    WriteTimeout                             the upstream took none of the request for `write_timeout_s`
    LocalProtocolError, UnsupportedProtocol  the request itself cannot be written
    StreamClosed                             the answer was read after its `aclose()`

What the request's own body stream raises comes through unchanged. Messages hold the upstream's host and port and the
system's reason, never a header field or a byte of a body.
"""

from ccr_asgi.transport.http11 import Http11Transport

__all__ = ["Http11Transport"]
