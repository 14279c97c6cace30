"""How a connection comes about: name, socket, proxy, TLS, all within one time limit."""

import asyncio
import base64
import re
import ssl
from socket import SOCK_STREAM, socket

import httpx
from aiohappyeyeballs import start_connection

from ccr_asgi.errors import RawHeaders
from ccr_asgi.transport.connection import Connection, Origin, Pool

HAPPY_EYEBALLS_S = 0.25
"""When to try a host's next address beside the first (RFC 8305, section 5)."""
MAX_PROXY_HEAD_BYTES = 64 * 1024
"""How much a proxy may say before it lets us through."""


class Dialer:
    """Opens connections: directly, or through an HTTP proxy (`proxy`); see `Http11Transport` for the arguments."""

    def __init__(
        self, timeout_s: float, proxy: str | None, ca_file: str | None, ssl_context: ssl.SSLContext | None
    ) -> None:
        self._timeout_s = timeout_s
        self._proxy = None if proxy is None else httpx.URL(proxy)
        if self._proxy is not None and (self._proxy.scheme != "http" or not self._proxy.host):
            raise ValueError("The proxy must be a URL that begins with http:// and names a host")
        self._ca_file = ca_file
        self._ssl_context = ssl_context

    async def connect(self, origin: Origin, pool: Pool) -> Connection:
        """A new connection to `origin`, which belongs to `pool`.

        Raises:
            httpx.ConnectTimeout: It took longer than the limit.
            httpx.ConnectError: Anything else: the name, the network, the proxy, the certificate.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                context = await self._tls() if origin.scheme == "https" else None
                sock = await self._open_socket(origin)
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(pool, origin),
                    sock=sock,
                    ssl=context,
                    server_hostname=None if context is None else origin.host,
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"{origin.peer} could not be connected to in time") from error
        # UnicodeError: a name that IDNA cannot write. RuntimeError: what uvloop makes of some failures.
        except (OSError, UnicodeError, RuntimeError) as error:
            raise httpx.ConnectError(f"{origin.peer} could not be connected to: {error}") from error
        if pool.closed:
            # Not sooner: uvloop would close the file descriptor twice if this came before create_connection()'s end.
            connection.transport.abort()
        return connection

    def absolute_form(self, url: httpx.URL) -> tuple[bytes, RawHeaders]:
        """What an unencrypted request through a proxy has before its target, and its added fields; else nothing."""
        if self._proxy is None or url.scheme == "https":
            return b"", ()
        return b"http://" + url.netloc, self._proxy_fields()

    async def _open_socket(self, origin: Origin) -> socket:
        loop = asyncio.get_running_loop()
        near = origin if self._proxy is None else Origin.of(self._proxy)
        addresses = await loop.getaddrinfo(near.host, near.port, type=SOCK_STREAM)
        sock = await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_S, loop=loop)
        if self._proxy is not None and origin.scheme == "https":
            try:
                await self._tunnel(sock, origin)
            except BaseException:
                sock.close()
                raise
        return sock

    async def _tunnel(self, sock: socket, origin: Origin) -> None:
        """Have the proxy connect `sock` through to `origin` (RFC 9110, section 9.3.6)."""
        loop = asyncio.get_running_loop()
        target = origin.peer.encode("ascii")
        fields = [(b"Host", target), *self._proxy_fields()]
        lines = [b"CONNECT " + target + b" HTTP/1.1", *[name + b": " + value for name, value in fields]]
        await loop.sock_sendall(sock, b"\r\n".join(lines) + b"\r\n\r\n")
        head = b""
        # After its head the proxy is silent until we speak TLS: what is read here is never more than the head.
        while b"\r\n\r\n" not in head:
            data = await loop.sock_recv(sock, 4096)
            head += data
            if not data or len(head) > MAX_PROXY_HEAD_BYTES:
                raise ConnectionError("the proxy gave no answer")
        if re.match(rb"HTTP/1\.[01] 2\d\d", head) is None:
            raise ConnectionError(f"the proxy refused with {head[9:12].decode('ascii', 'replace')!r}")

    def _proxy_fields(self) -> RawHeaders:
        if self._proxy is None or not self._proxy.userinfo:
            return ()
        credentials = f"{self._proxy.username}:{self._proxy.password}".encode()
        return ((b"Proxy-Authorization", b"Basic " + base64.b64encode(credentials)),)

    async def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            # Reading all those certificates takes 60 ms, which no other request shall wait for.
            self._ssl_context = await asyncio.to_thread(_tls_context, self._ca_file)
        return self._ssl_context


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.load_default_certs()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
