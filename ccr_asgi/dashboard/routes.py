"""The dashboard and its JSON, as routes: thin handlers between the query string, the queries and what is sent."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ccr_asgi.config import Cost, Provider
from ccr_asgi.dashboard import payload
from ccr_asgi.dashboard.filters import Window, parse_window
from ccr_asgi.dashboard.headers import PRIVATE, SECURITY
from ccr_asgi.dashboard.queries import RequestRow, entries, overview
from ccr_asgi.dashboard.reading import OpenStore, read
from ccr_asgi.dashboard.site import Site, Standings
from ccr_asgi.dashboard.static_files import static_file
from ccr_asgi.errors import CcrError, RequestError, escape_html, to_anthropic
from ccr_asgi.exchange import new_request_id
from ccr_asgi.wire.json_codec import dumps

FORMATS = ("json", "legacy", "csv")
BATCH_ROWS = 1000
"""Rows that are read and sent at a time, where all of them are wanted: between them traffic goes on."""


def routes(
    store: OpenStore,
    *,
    database: str,
    costs: Mapping[str, Cost],
    providers: Mapping[str, Provider],
    simulated: bool = False,
    standings: Standings | None = None,
) -> list[BaseRoute]:
    """The routes of `/dashboard` and `/api/usage`; every address that they print honours `root_path`.

    Args:
        store: Awaits the open usage store; raises StoreError if it cannot be opened.
        database: Its path or URL, for the SQL recipes; a password in it is never shown.
        costs: The configured prices, for the original's form of the JSON.
        providers: Those that are configured.
        simulated: Everything is made up, which the pages say.
        standings: How the budgets stand; None if there are none.
    """
    site = Site(store, database, providers, simulated=simulated, standings=standings)
    numbers = Numbers(store, costs)
    smaller = [Middleware(GZipMiddleware, compresslevel=5)]
    return [
        Route("/dashboard", site.dashboard, middleware=smaller),
        Route("/dashboard/live", site.live),
        # An id is whatever a client made it, slashes included.
        Route("/dashboard/requests/{id:path}", site.request, middleware=smaller),
        Route("/dashboard/sessions/{id:path}", site.session, middleware=smaller),
        Route("/dashboard/static/{name}", static),
        Route("/api/usage", numbers.usage),
    ]


class Numbers:
    """The handler of the JSON; see `routes` for the arguments."""

    def __init__(self, store: OpenStore, costs: Mapping[str, Cost]) -> None:
        self._store = store
        self._costs = costs

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
        found = await read(self._store, lambda connection: overview(connection, window))
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
        return await read(self._store, lambda connection: entries(connection, window, after=after, limit=limit))


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
        file = await asyncio.to_thread(static_file, request.path_params["name"])
    except KeyError:
        raise HTTPException(404) from None
    named = request.query_params.get("v") == file.digest
    kept = "public, max-age=31536000, immutable" if named else "no-cache"
    headers = {**SECURITY, "content-type": file.media_type, "cache-control": kept, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, headers={**headers, "content-encoding": "gzip"})
    return Response(file.body, headers=headers)


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
