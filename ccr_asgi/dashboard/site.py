"""The pages for people, as handlers: thin, between the query string, the queries and the templates."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ccr_asgi.budgets import Standing
from ccr_asgi.config import Provider
from ccr_asgi.dashboard.details import request_detail, session_tree
from ccr_asgi.dashboard.failures import failures
from ccr_asgi.dashboard.filters import Window, parse_window
from ccr_asgi.dashboard.headers import PRIVATE
from ccr_asgi.dashboard.health import health, version
from ccr_asgi.dashboard.page import (
    TABS,
    Found,
    Notice,
    Place,
    render_notice,
    render_overview,
    render_request,
    render_session,
)
from ccr_asgi.dashboard.queries import NAMED, overview
from ccr_asgi.dashboard.reading import OpenStore, read
from ccr_asgi.errors import CcrError, NotFound, RequestError
from ccr_asgi.usage.database import Database
from ccr_asgi.usage.errors import StoreError
from ccr_asgi.usage.meters import read_meters

UNREADABLE = "The usage database cannot be read"
DETAIL_PARAMETERS = ("tz", "page", "page_size")

Standings = Callable[[], Awaitable[Sequence[Standing]]]
"""Awaits how the budgets stand."""


class Site:
    """The handlers.

    Args:
        store: Awaits the open usage store.
        database: Its path or URL, for the recipes; a password in it is never shown.
        providers: Those that are configured, for how they fare.
        simulated: Everything is made up, which the pages say.
        standings: How the budgets stand; None if there are none.
    """

    def __init__(
        self,
        store: OpenStore,
        database: str,
        providers: Mapping[str, Provider],
        *,
        simulated: bool = False,
        standings: Standings | None = None,
    ) -> None:
        self._store = store
        self._database = database
        self._providers = providers
        self._simulated = simulated
        self._standings = standings

    async def dashboard(self, request: Request) -> Response:
        """`GET /dashboard`: the page; what goes wrong is said in it, with the status that it has."""
        place, now = self._place(request), datetime.now(UTC)
        try:
            window = parse_window(_of_form(request.query_params.multi_items()), now, beside=("tab",))
            tab = _tab(window)
        except RequestError as error:
            return _said("This address is not understood", error, place)
        try:
            standings = await self._standings() if self._standings is not None else ()
            found = await read(self._store, lambda connection: self._found(connection, window, tab, standings))
        except CcrError as error:
            return _said(UNREADABLE, error, place, window)
        # In a thread: figures and templates take longer than running streams should wait.
        return _html(await asyncio.to_thread(render_overview, found, window, place))

    async def request(self, request: Request) -> Response:
        """`GET /dashboard/requests/{id}`: all that is known of one request."""
        place, request_id = self._place(request), request.path_params["id"]
        try:
            window = _of_detail(request)
            detail = await read(self._store, lambda connection: request_detail(connection, request_id))
        except CcrError as error:
            return _said(_title(error), error, place)
        if detail is None:
            return _said("No such request", NotFound(f"No request {request_id!r:.100} is stored."), place)
        return _html(render_request(detail, window, place))

    async def session(self, request: Request) -> Response:
        """`GET /dashboard/sessions/{id}`: the agents of one session, and its requests."""
        place, session_id = self._place(request), request.path_params["id"]
        try:
            window = replace(_of_detail(request), filters={"session": session_id})
            main, found = await read(
                self._store,
                lambda connection: (session_tree(connection, session_id), overview(connection, window, ())),
            )
        except CcrError as error:
            return _said(_title(error), error, place)
        if main is None:
            return _said("No such session", NotFound(f"No request of a session {session_id!r:.100} is stored."), place)
        return _html(await asyncio.to_thread(render_session, session_id, main, found, window, place))

    async def live(self, request: Request) -> Response:
        """`GET /dashboard/live`: a text that changes with whatever is stored; small enough to be asked for often."""
        try:
            return JSONResponse({"version": await read(self._store, version)}, headers=PRIVATE)
        except CcrError as error:
            return JSONResponse({"version": None}, error.status, headers=PRIVATE)

    def _found(self, connection: Connection, window: Window, tab: str, standings: Sequence[Standing]) -> Found:
        named = [key for key in NAMED if key in ("agent", TABS[tab])]
        return Found(
            overview=overview(connection, window, named),
            failures=failures(connection, window),
            health=health(connection, self._providers, _path(self._database), window.now),
            meters=read_meters(connection, window.now),
            standings=standings,
            tab=tab,
            version=version(connection),
        )

    def _place(self, request: Request) -> Place:
        root_path = request.scope.get("root_path", "").rstrip("/")
        # request.url would fail on a query that is not UTF-8.
        asked = URL(scope={**request.scope, "path": "/", "query_string": b""})
        return Place(quote(root_path), f"{asked.scheme}://{asked.netloc}", self._database, self._simulated)


def _of_form(parameters: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parameters of the form, which without scripts sends its dates along with whatever range is chosen."""
    chosen = dict(parameters).get("range", "custom")
    return [(name, value) for name, value in parameters if chosen == "custom" or name not in ("from", "to")]


def _of_detail(request: Request) -> Window:
    """The window of a page that is about one thing: all of time."""
    parameters = request.query_params.multi_items()
    for name, _ in parameters:
        if name not in DETAIL_PARAMETERS:
            raise RequestError(f"Parameter {name!r:.60} is not known; accepted: {', '.join(DETAIL_PARAMETERS)}.")
    return parse_window(parameters, datetime.now(UTC), default_range="all")


def _tab(window: Window) -> str:
    tab = window.given.get("tab", "agents")
    if tab not in TABS:
        raise RequestError(f"Parameter tab: found {tab!r:.80}; accepted: {', '.join(TABS)}.")
    return tab


def _path(database: str) -> Path | None:
    try:
        return Database.parse(database).path
    except StoreError:
        return None


def _title(error: CcrError) -> str:
    return "This address is not understood" if isinstance(error, RequestError) else UNREADABLE


def _said(title: str, error: CcrError, place: Place, window: Window | None = None) -> Response:
    shown = parse_window((), datetime.now(UTC)) if window is None else window
    return _html(render_notice(Notice(title, error.message), shown, place), error.status)


def _html(page: str, status: int = 200) -> Response:
    return Response(page, status, media_type="text/html", headers=PRIVATE)
