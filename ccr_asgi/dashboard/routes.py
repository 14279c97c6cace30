"""The dashboard and its JSON, as routes: thin handlers between the query string, the queries and what is sent."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ccr_asgi.config import Cost
from ccr_asgi.dashboard import payload
from ccr_asgi.dashboard.filters import Window, parse_window
from ccr_asgi.dashboard.page import Notice, Place, render_notice, render_overview
from ccr_asgi.dashboard.queries import RequestRow, entries, overview
from ccr_asgi.dashboard.static_files import static_file
from ccr_asgi.errors import CcrError, RequestError, escape_html, to_anthropic
from ccr_asgi.exchange import new_request_id
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.store import Answer, UsageStore
from ccr_asgi.wire.json_codec import dumps

logger = logging.getLogger(__name__)

FORMATS = ("json", "legacy", "csv")
BATCH_ROWS = 1000
"""Rows that are read and sent at a time, where all of them are wanted: between them traffic goes on."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer of ours."""

PRIVATE = {**SECURITY, "cache-control": "no-store"}


def routes(store: Callable[[], Awaitable[UsageStore]], *, database: str, costs: Mapping[str, Cost]) -> list[BaseRoute]:
    """The routes of `/dashboard` and `/api/usage`; every address that they print honours `root_path`.

    Args:
        store: Awaits the open usage store; raises StoreError if it cannot be opened.
        database: Its path or URL, for the SQL recipe; a password in it is never shown.
        costs: The configured prices, for the original's form of the JSON.
    """
    pages = Dashboard(store, database, costs)
    return [
        Route("/dashboard", pages.dashboard),
        Route("/dashboard/static/{name}", static),
        Route("/api/usage", pages.usage),
    ]


class Dashboard:
    """The handlers; see `routes` for the arguments."""

    def __init__(self, store: Callable[[], Awaitable[UsageStore]], database: str, costs: Mapping[str, Cost]) -> None:
        self._store = store
        self._database = database
        self._costs = costs

    async def dashboard(self, request: Request) -> Response:
        """`GET /dashboard`: the page; what goes wrong is said in it, with the status that it has."""
        place, now = self._place(request), datetime.now(UTC)
        try:
            window = parse_window(request.query_params.multi_items(), now)
        except RequestError as error:
            notice = Notice("This address is not understood", error.message)
            return _html(render_notice(notice, parse_window((), now), place), error.status)
        try:
            found = await self._read(lambda connection: overview(connection, window))
        except CcrError as error:
            notice = Notice("The usage database cannot be read", error.message)
            return _html(render_notice(notice, window, place), error.status)
        return _html(render_overview(found, window, place))

    async def usage(self, request: Request) -> Response:
        """`GET /api/usage`: the same as JSON; `?format=csv` the requests, `?format=legacy` in the original's form."""
        try:
            return await self._usage(request.query_params.multi_items(), datetime.now(UTC))
        except CcrError as error:
            answer = to_anthropic(error, new_request_id())
            response = Response(answer.body, answer.status, headers=PRIVATE)
            response.raw_headers.extend(answer.headers)
            return response

    async def _usage(self, parameters: Sequence[tuple[str, str]], now: datetime) -> Response:
        form, rest = _format(parameters), _without_format(parameters)
        if form == "legacy":
            return await self._all(parse_window(rest, now, default_range="all", paged=False), _Legacy(self._costs))
        if form == "csv":
            return await self._all(parse_window(rest, now, paged=False), _Csv())
        window = parse_window(rest, now)
        found = await self._read(lambda connection: overview(connection, window))
        return Response(
            escape_html(dumps(payload.usage(found, window))), media_type="application/json", headers=PRIVATE
        )

    async def _all(self, window: Window, form: "_Legacy | _Csv") -> Response:
        """All requests of `window`, the oldest first, or its page of them."""
        first = await self._entries(window, None)  # before the status is sent, which says whether it can be read
        headers = {**PRIVATE, **form.headers}
        return StreamingResponse(self._parts(window, first, form), media_type=form.media_type, headers=headers)

    async def _parts(self, window: Window, batch: Sequence[RequestRow], form: "_Legacy | _Csv") -> AsyncIterator[bytes]:
        yield form.head()
        separator = b""
        while batch:
            yield separator + form.rows(batch)
            separator = form.separator
            if window.page_size is not None or len(batch) < BATCH_ROWS:
                break
            batch = await self._entries(window, (batch[-1].started_at, batch[-1].id))
        yield form.foot()

    async def _entries(self, window: Window, after: tuple[str, str] | None) -> Sequence[RequestRow]:
        # Each batch by a connection of its own: a client that reads slowly must not keep one from the others.
        limit = window.page_size or BATCH_ROWS
        return await self._read(lambda connection: entries(connection, window, after=after, limit=limit))

    async def _read(self, ask: Callable[[Connection], Answer]) -> Answer:
        try:
            return await (await self._store()).read(ask)
        except (StoreError, StoreUnavailable) as error:
            raise CcrError(str(error), status=503) from error
        except (SQLAlchemyError, OSError) as error:
            logger.error("the usage database could not be read: %s", error)
            raise CcrError("It does not answer as it should; the server's log says why.", status=503) from error

    def _place(self, request: Request) -> Place:
        root_path = request.scope.get("root_path", "").rstrip("/")
        # request.url would fail on a query that is not UTF-8.
        asked = URL(scope={**request.scope, "path": "/", "query_string": b""})
        return Place(prefix=quote(root_path), origin=f"{asked.scheme}://{asked.netloc}", database=self._database)


class _Legacy:
    """The JSON of the original: its log objects, and the configured prices."""

    media_type = "application/json"
    headers: Mapping[str, str] = {}
    separator = b","

    def __init__(self, costs: Mapping[str, Cost]) -> None:
        self._costs = costs

    def head(self) -> bytes:
        return b'{"entries":['

    def rows(self, rows: Sequence[RequestRow]) -> bytes:
        return escape_html(dumps([payload.legacy_entry(row) for row in rows])[1:-1])

    def foot(self) -> bytes:
        return b'],"costs":' + escape_html(dumps(payload.legacy_costs(self._costs))) + b"}"


class _Csv:
    """A table for a spreadsheet."""

    media_type = "text/csv"
    headers: Mapping[str, str] = {"content-disposition": 'attachment; filename="usage.csv"'}
    separator = b""

    def head(self) -> bytes:
        return payload.csv_lines((), head=True)

    def rows(self, rows: Sequence[RequestRow]) -> bytes:
        return payload.csv_lines(rows, head=False)

    def foot(self) -> bytes:
        return b""


async def static(request: Request) -> Response:
    """`GET /dashboard/static/{name}`: kept for ever under the address that names its content, else asked for anew."""
    try:
        file = static_file(request.path_params["name"])
    except KeyError:
        raise HTTPException(404) from None
    named = request.query_params.get("v") == file.digest
    kept = "public, max-age=31536000, immutable" if named else "no-cache"
    return Response(file.body, headers={**SECURITY, "content-type": file.media_type, "cache-control": kept})


def _html(page: str, status: int = 200) -> Response:
    return Response(page, status, media_type="text/html", headers=PRIVATE)


def _format(parameters: Sequence[tuple[str, str]]) -> str:
    """The value of `format`.

    Raises:
        RequestError: There is no such format.
    """
    found = [value for name, value in parameters if name == "format" and value] or ["json"]
    if len(found) > 1 or found[0] not in FORMATS:
        raise RequestError(f"Parameter format: found {', '.join(found)!r:.80}; accepted: {', '.join(FORMATS)}.")
    return found[0]


def _without_format(parameters: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in parameters if name != "format"]
