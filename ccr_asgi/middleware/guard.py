"""Who may talk to us, and in what form: checked before anything else, on every route, under every server."""

import base64
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ccr_asgi.asgi import ErrorResponder, header, raw_path, send_error, with_headers
from ccr_asgi.errors import (
    AuthenticationError,
    CcrError,
    HeadersTooLarge,
    PermissionDenied,
    RequestError,
    RequestTooLarge,
    UnsupportedEncoding,
)
from ccr_asgi.exchange import PROXY_KEY, new_request_id

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
KEY_HEADER = b"x-ccr-key"
HEALTH_PATH = b"/healthz"

_ASK = [(b"www-authenticate", b'Basic realm="ccr-asgi"')]
_CLOSE = [(b"connection", b"close")]
"""What the server shall do when it has sent the answer (uvicorn and granian do)."""

_HOST = re.compile(r"(\[[^]]*\]|[^:]*)(?::\d*)?")


class GuardMiddleware:
    """Refuses foreign hosts, foreign origins, unknown peers, and requests whose framing or size is not acceptable.

    Args:
        app: The layers below.
        allowed_hosts: Host names (no port) beside localhost, 127.0.0.1 and [::1]; "*" hands the check to the host
            app. The defence against DNS rebinding.
        proxy_keys: Keys by the name of their owner. A peer that is not on this machine needs one, in `x-ccr-key`, or
            on our pages as the password of HTTP Basic; with none configured such peers are refused.
        require_key: A peer on this machine needs one, too: it may be a reverse proxy that speaks for others. But for
            `/healthz`, which says nothing.
        max_body_bytes: Longest request body, declared or counted.
        max_header_bytes: Largest sum of all header names and values; servers differ here, so it is checked again.
        pages: Paths of pages for people, and what is below them: a link from a sister site may lead there, and a key
            may be given as a password.

    Refusals are rendered here, since nothing of ours stands above. `x-ccr-key` never goes on; the name of its owner
    does, in the scope.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: Iterable[str] = (),
        proxy_keys: Mapping[str, str] | None = None,
        require_key: bool = False,
        max_body_bytes: int = 32 * 1024 * 1024,
        max_header_bytes: int = 64 * 1024,
        pages: tuple[str, ...] = ("/dashboard", "/api/usage", "/api/quota", "/metrics"),
    ) -> None:
        self.app = app
        self._hosts = LOCAL_HOSTS | {host.lower() for host in allowed_hosts}
        self._keys = {owner: key.encode("utf-8") for owner, key in (proxy_keys or {}).items()}
        self._max_body_bytes = max_body_bytes
        self._max_header_bytes = max_header_bytes
        self._require_key = require_key
        self._pages = tuple(prefix.encode("ascii") for prefix in pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope)
        except CcrError as error:
            await send_error(send, error, new_request_id(), extra=_extra(error))
            return
        if header(scope, KEY_HEADER) is not None:
            kept = [pair for pair in scope["headers"] if pair[0] != KEY_HEADER]
            scope = {**with_headers(scope, kept), PROXY_KEY: self._key_owner(scope)}
        if header(scope, b"content-length") is not None:  # the server holds the client to it
            await self.app(scope, receive, send)
            return
        responder = ErrorResponder(send, new_request_id())
        try:
            await self.app(scope, _Counted(receive, self._max_body_bytes), responder.send)
        except RequestTooLarge as error:
            await responder.render(error)
        else:
            if not responder.started:
                # A broken chunk looks like a client that left; granian would answer 500 in our place. Nobody reads
                # this if the client did leave.
                await responder.render(_Unframed("The request's body broke off."), _CLOSE)

    def _check(self, scope: Scope) -> None:
        check_framing(scope)
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._max_header_bytes:
            raise HeadersTooLarge(
                f"The request's header fields are {size} bytes long; at most {self._max_header_bytes} are taken."
            )
        self._check_host(scope)
        self._check_origin(scope)
        self._check_peer(scope)
        self._check_body(scope)

    def _check_host(self, scope: Scope) -> None:
        if "*" in self._hosts:
            return
        found = header(scope, b"host") or ""
        if _without_port(found).lower() not in self._hosts:
            raise PermissionDenied(
                f"The host {found!r:.200} is not one of {', '.join(sorted(self._hosts))}. If it is yours, add it to "
                "allowedHosts in the configuration (allowed_hosts= of GuardMiddleware)."
            )

    def _check_origin(self, scope: Scope) -> None:
        for origin in _values(scope, b"origin"):
            if _authority(origin) != (header(scope, b"host") or "").lower():
                raise PermissionDenied(f"Requests from pages of another origin ({origin!r:.200}) are refused.")
        for site in _values(scope, b"sec-fetch-site"):
            if site == "cross-site" or (site == "same-site" and not self._is_visit(scope)):
                raise PermissionDenied(f"Requests from other sites' pages (Sec-Fetch-Site: {site}) are refused.")

    def _is_visit(self, scope: Scope) -> bool:
        """Whether a person follows a link to one of our pages."""
        return (
            scope["method"] == "GET"
            and header(scope, b"sec-fetch-mode") == "navigate"
            and header(scope, b"sec-fetch-dest") == "document"
            and self._is_page(scope)
        )

    def _is_page(self, scope: Scope) -> bool:
        path = raw_path(scope)
        return any(path == page or path.startswith(page + b"/") for page in self._pages)

    def _check_peer(self, scope: Scope) -> None:
        local = _is_local(scope.get("client")) and not (self._require_key and raw_path(scope) != HEALTH_PATH)
        if local or self._key_owner(scope) is not None:
            return
        if self._keys and self._is_page(scope):
            raise _PasswordWanted("Give a proxy key as the password.")
        advice = "Send a proxy key in x-ccr-key." if self._keys else "Configure proxyKeys to let other machines in."
        who = "Nobody gets in" if self._require_key else "Only this machine may use the proxy"
        raise PermissionDenied(f"{who} without a key. {advice}")

    def _key_owner(self, scope: Scope) -> str | None:
        """The name of the proxy key that came with the request."""
        given = header(scope, KEY_HEADER)
        if given is None and self._is_page(scope):
            given = _basic_password(header(scope, b"authorization") or "")
        if given is None:
            return None
        # Every key is compared, so that the time tells nothing about which one was close.
        offered = given.encode("latin-1", "replace")
        owners = [owner for owner, key in self._keys.items() if hmac.compare_digest(offered, key)]
        return owners[0] if owners else None

    def _check_body(self, scope: Scope) -> None:
        for encoding in _values(scope, b"content-encoding"):
            if encoding.strip().lower() not in ("", "identity"):
                raise UnsupportedEncoding(f"The body is compressed ({encoding!r:.50}); send it as it is.")
        length = header(scope, b"content-length")
        if length is not None and int(length) > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)


class _PasswordWanted(AuthenticationError):
    """A browser asks its user for the key when it sees this."""


class _Unframed(RequestError):
    """Where this request ends is not clear, so nothing that follows on its connection can be believed."""


class _Counted:
    """A `receive` that ends with an error when more comes than was allowed."""

    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._read_bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._read_bytes += len(message.get("body", b""))
        if self._read_bytes > self._limit_bytes:
            raise _too_large(self._limit_bytes)
        return message


def check_framing(scope: Scope) -> None:
    """Refuse what two HTTP implementations could read differently (request smuggling, RFC 9112, section 6.3).

    Raises:
        _Unframed: Several Host, Content-Length or Transfer-Encoding fields, both of the latter, a length that is not
            a number, or a coding other than chunks of HTTP/1.1 (a compressed one would be handed on undone).
    """
    names = [name for name, _ in scope["headers"]]
    for name in (b"host", b"content-length", b"transfer-encoding"):
        if names.count(name) > 1:
            raise _Unframed(f"The request has several {str(name, 'ascii')} fields; exactly one is accepted.")
    coding = header(scope, b"transfer-encoding")
    if coding is not None and (coding.strip().lower() != "chunked" or scope.get("http_version") == "1.0"):
        raise _Unframed(f"The request's transfer-encoding is {coding!r:.50}; only chunked is accepted, in HTTP/1.1.")
    length = header(scope, b"content-length")
    if length is None:
        return
    if coding is not None:
        raise _Unframed("The request has both content-length and transfer-encoding; exactly one is accepted.")
    if not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise _Unframed(f"content-length is {length!r:.50}; it must be a number of bytes.")


def _values(scope: Scope, name: bytes) -> list[str]:
    """All values of a request header: one that a check has not seen could be the one that others act on."""
    return [str(value, "latin-1") for key, value in scope["headers"] if key == name]


def _extra(error: CcrError) -> list[tuple[bytes, bytes]]:
    match error:
        case _PasswordWanted():
            return _ASK
        case _Unframed():
            return _CLOSE
        case _:
            return []


def _too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"The request body is over {limit_bytes} bytes, the limit of this proxy (limits.bodyMb in the configuration)."
    )


def _without_port(host: str) -> str:
    match = _HOST.fullmatch(host)
    return match[1] if match is not None else host


def _authority(origin: str) -> str | None:
    """Host and port of an origin; None for an opaque one (`null`)."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _is_local(client: object) -> bool:
    """Whether the peer is on this machine; a Unix socket has no address, and is."""
    if not isinstance(client, list | tuple) or not client or not client[0]:
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _basic_password(authorization: str) -> str | None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(token.strip(), validate=True).decode("latin-1").partition(":")[2]
    except ValueError:
        return None
