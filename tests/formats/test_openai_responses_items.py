"""Which item an event means, and what an item takes."""

from typing import Any

import pytest

from ccr_asgi.formats.openai_responses_items import FunctionCall, Item, Places, names_of
from tests.formats.responses_answers import Event, added, argued, item_done, said


@pytest.mark.parametrize(
    ("events", "places"),
    [
        ([said(0, "a"), said(3, "b"), said(1, "c")], [0, 3, 1]),
        ([said(0, "a", item_id="x"), said(1, "b", item_id="x")], [0, 1]),
        ([said(None, "a", item_id="x"), said(None, "b", item_id="y"), said(None, "c", item_id="x")], [0, 1, 0]),
        ([added(None, "message", id="x"), argued(None, "{", item_id="y"), said(None, "a", item_id="x")], [0, 1, 0]),
        ([added(2, "message", id="x"), said(None, "a", item_id="x"), said(None, "b", item_id="y")], [2, 2, 3]),
        ([said(None, "a"), said(None, "b")], [0, 0]),
        ([said(None, "a", item_id=name) for name in "xyzw"], [0, 1, 2, 3]),
        ([added(None, "message"), said(None, "a"), added(None, "function_call"), argued(None, "{")], [0, 0, 1, 1]),
        ([added(None, "message"), item_done(None, "message"), added(None, "message")], [0, 0, 1]),
        ([said(None, "a"), argued(None, "{", item={"type": "function_call"})], [0, 0]),
        ([{"output_index": "1", "item_id": 7}, {"output_index": True, "item_id": "x"}, {"item": "x"}], [0, 1, 1]),
    ],
)
def test_an_event_means_an_item(events: list[Event], places: list[int]) -> None:
    found = Places()
    assert [found.of(event) for event in events] == places


def test_an_item_of_the_finished_answer_is_known_by_its_id() -> None:
    places = Places()
    places.of(said(4, "a", item_id="x"))
    assert [places.known({"id": name}, otherwise=1) for name in ("x", "y", None)] == [4, 1, 1]


@pytest.mark.parametrize(
    ("item", "names"),
    [({"id": "a", "call_id": "b"}, ["a", "b"]), ({"id": "", "call_id": None}, []), ({"id": 7}, []), ({}, [])],
)
def test_the_names_of_an_item(item: dict[str, Any], names: list[str]) -> None:
    assert names_of(item) == names


@pytest.mark.parametrize(
    ("told", "text", "rest"),
    [("", "abc", "abc"), ("ab", "abc", "c"), ("abc", "abc", ""), ("x", "abc", ""), ("ab", "", "")],
)
def test_the_whole_tells_what_is_missing(told: str, text: str, rest: str) -> None:
    item = Item(pieces=[told] if told else [])
    assert item.take_whole(text) == rest
    assert "".join(item.pieces) == told + rest
    assert Item(pieces=list(told), complete=True).take_whole(text) == ""


def test_a_piece_is_written_once() -> None:
    item = Item(pieces=["a", "b"])
    assert item.unwritten() == ["a", "b"]
    item.pieces.append("c")
    assert item.unwritten() == ["c"]
    assert item.unwritten() == []


def test_the_pieces_of_a_call_are_its_arguments() -> None:
    assert FunctionCall(pieces=['{"a"', ": 1}"]).arguments == '{"a": 1}'


@pytest.mark.parametrize(
    ("complete", "known", "told", "over"),
    [
        (True, {"a"}, ["b"], True),
        (False, {"a"}, ["b"], False),
        (True, {"a", "b"}, ["b", "c"], False),
        (True, {"a"}, [], False),
        (True, set(), ["b"], False),
    ],
)
def test_another_item_at_the_place_of_one_that_is_over(
    complete: bool, known: set[str], told: list[str], over: bool
) -> None:
    assert Item(complete=complete, names=known).is_over(told) is over
