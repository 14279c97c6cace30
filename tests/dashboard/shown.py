"""Pages and JSON of the dashboard, asked for and read; and rows to show."""

import json
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.store import UsageStore
from tests.support.asgi import Response, request
from tests.usage.records import record
from tests.usage.valuations import valuation

VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """What a reader of the HTML finds: elements that are open, values by field, links, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.values: dict[str, dict[str, list[str]]] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()
        assert self._open == [], "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append((tag, found.get("id")))
        if field := found.get("data-field"):
            section = next((name for _, name in reversed(self._open) if name and name != "main"), "")
            self.values.setdefault(section, {}).setdefault(field, []).append(found.get("value") or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "script":
            return  # figures, which nobody reads
        self.text.append(data)

    def addresses(self) -> list[str]:
        names = ("href", "src", "action")
        return [value for _, found in self.elements for name in names if (value := found.get(name))]

    def scripts(self) -> list[dict[str, str | None]]:
        return [found for tag, found in self.elements if tag == "script"]

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


async def get(app: Any, path: str, query: str = "", **more: Any) -> Response:
    return await request(app, path=path, query=query.encode("latin-1"), **more)


async def page(app: Any, query: str = "", status: int = 200, path: str = "/dashboard", **more: Any) -> Page:
    response = await get(app, path, query, **more)
    assert response.status == status
    assert response.header("content-type") == b"text/html; charset=utf-8"
    return Page(response.body.decode("utf-8"))


async def usage(app: Any, query: str = "", status: int = 200) -> Any:
    response = await get(app, "/api/usage", query)
    assert response.status == status
    assert response.header("content-type") == b"application/json"
    return json.loads(response.body)


def recent(row_id: str, minutes: int = 1, **changes: Any) -> UsageRecord:
    return record(row_id, started_at=datetime.now(UTC) - timedelta(minutes=minutes), **changes)


async def fill(store: UsageStore, path: Path) -> None:
    """Rows of three providers: priced, unpriced, by subscription, failed."""
    rows = [
        recent("a", 1),
        recent("b", 2, model="zai-glm-4.7", agent_id=None, tokens=Tokens(input=3_000_000, output=12_345)),
        recent("c", 3, provider="anthropic", model="claude-x", agent_id=None, subscription=True, ttft_ms=50.0),
        recent("d", 4, provider=None, model=None, outcome="error", status=400, tokens=Tokens(), ttft_ms=None,
               error_type="invalid_request_error"),
    ]  # fmt: skip
    await store.insert(rows)
    await store.reprice({"a": valuation(1234567, 2000000, 3)}, datetime.now(UTC))
