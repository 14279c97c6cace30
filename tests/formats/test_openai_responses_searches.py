"""Searches that the provider ran: what was looked for, what was found, and what waits for it."""

from typing import Any

import pytest

from tests.formats.responses_answers import (
    Event,
    added,
    answer,
    call,
    completed,
    content,
    event,
    item_done,
    machine,
    said,
    sse,
    words,
)
from tests.support.anthropic_stream import read_events

HI = {"type": "text", "text": "Hi"}


def search(place: int, **action: Any) -> Event:
    return item_done(place, "web_search_call", id=f"ws_{place}", action={"type": "search", **action})


def cited(place: int, url: object, title: object = "T", kind: str = "url_citation") -> Event:
    annotation = {"type": kind, "url": url, "title": title}
    return event("response.output_text.annotation.added", place, annotation=annotation)


def searched(*events: Event) -> list[tuple[str, list[str]]]:
    """The query of each search, and the pages it found."""
    blocks = content(*events)
    uses = [block for block in blocks if block["type"] == "server_tool_use"]
    results = [block for block in blocks if block["type"] == "web_search_tool_result"]
    assert [block["id"] for block in uses] == [block["tool_use_id"] for block in results]
    return [
        (block["input"]["query"], [page["url"] for page in result["content"]])
        for block, result in zip(uses, results, strict=True)
    ]


@pytest.mark.parametrize(
    ("action", "query"),
    [
        ({"query": "q"}, "q"),
        ({"query": "q", "queries": ["a", "b"]}, "q"),
        ({"queries": ["a", None, "", "b"]}, "a; b"),
    ],
)
def test_what_was_searched(action: dict[str, Any], query: str) -> None:
    assert searched(search(0, **action)) == [(query, [])]


@pytest.mark.parametrize("action", [{}, {"query": None, "queries": 7}, {"query": 7, "queries": "abc"}])
def test_a_search_that_tells_nothing_is_left_out(action: dict[str, Any]) -> None:
    assert searched(search(0, **action)) == []
    assert searched(search(0, **action), cited(1, "https://a.invalid/")) == [("", ["https://a.invalid/"])]


def test_the_text_tells_what_the_latest_search_found() -> None:
    events = [search(0, query="one"), search(1, query="two"), said(2, "See."), cited(2, "https://a.invalid/")]
    other = [cited(2, "https://b.invalid/", kind=kind) for kind in ("file_citation", "video_citation")]
    for before in ([], call(3, "call_3", "A", "{}")[:1]):  # which keeps both searches waiting
        found = searched(*before, *events, *other, cited(2, 7), cited(2, ""))
        assert found == [("one", []), ("two", ["https://a.invalid/"])]


def test_a_message_s_end_tells_what_it_cites() -> None:
    annotations = [{"type": "url_citation", "url": f"https://{name}.invalid/", "title": "T"} for name in "ab"]
    parts = [{"type": "output_text", "text": "x", "annotations": [entry]} for entry in annotations]
    found = searched(search(0, query="q"), item_done(1, "message", content=parts))
    assert found == [("q", ["https://a.invalid/", "https://b.invalid/"])]


def test_a_page_is_found_once_and_named_by_its_title() -> None:
    blocks = content(search(0, query="q"), said(1, "x"), *(cited(1, "https://a.invalid/", title) for title in "AB"))
    assert [page["title"] for page in blocks[1]["content"]] == ["B"]


def test_searches_have_ids_that_the_answer_s_id_begins() -> None:
    blocks = content(search(0, query="one"), search(1, query="two"))
    assert [block["id"] for block in blocks[::2]] == ["srvtoolu_golden_0", "srvtoolu_golden_1"]


def test_a_search_waits_for_the_next_one_at_most() -> None:
    made = machine()
    assert made.feed(sse(search(0, query="one"))) == b""
    assert read_events(made.feed(sse(search(1, query="two"))))[-1]["type"] == "content_block_stop"
    assert searched(search(0, query="one"), search(1, query="two")) == [("one", []), ("two", [])]


def test_a_text_after_a_search_waits_for_its_own_end() -> None:
    made = machine()
    begun, *rest, done = words(1, "See.")
    assert made.feed(sse(search(0, query="q"), begun, *rest, cited(1, "https://a.invalid/"))) == b""
    types = [entry["content_block"]["type"] for entry in read_events(made.feed(sse(done))) if "content_block" in entry]
    assert types == ["server_tool_use", "web_search_tool_result", "text"]


def test_a_search_with_its_sources_makes_nothing_wait() -> None:
    made = machine()
    out = made.feed(sse(search(0, query="q", sources=[{"url": "https://a.invalid/"}, {"url": None}, 7])))
    assert [entry["content_block"]["type"] for entry in read_events(out) if "content_block" in entry] == [
        "server_tool_use",
        "web_search_tool_result",
    ]
    assert made.feed(sse(cited(1, "https://b.invalid/"), said(1, "See."))) != b""


def test_a_search_with_its_sources_takes_no_more_while_it_waits() -> None:
    begun, *rest = call(0, "call_0", "A", "{}")
    waiting = [search(1, query="q", sources=[{"url": "https://a.invalid/"}]), cited(2, "https://b.invalid/")]
    assert searched(begun, *waiting, *rest) == [("q", ["https://a.invalid/"])]


@pytest.mark.parametrize("kind", ["open_page", "find_in_page", None])
def test_a_page_that_was_opened_is_no_search(kind: str | None) -> None:
    opened = item_done(0, "web_search_call", id="ws_0", action={"type": kind, "url": "https://a.invalid/"})
    assert content(opened, opened, *words(1, "Hi")) == [HI]


def test_searches_that_are_alike_so_far_are_told_apart() -> None:
    begun = [added(place, "web_search_call") for place in (0, 1)]
    opened = item_done(1, "web_search_call", action={"type": "open_page"})
    found = item_done(0, "web_search_call", action={"type": "search", "query": "q"})
    assert searched(*begun, opened, found) == [("q", [])]


def test_a_call_of_a_search_is_no_call_of_the_client_s() -> None:
    found = answer(search(0, query="q"), *words(1, "Hi"), completed()).message
    assert found is not None
    assert found["stop_reason"] == "end_turn"
