"""The tree of a session's agents."""

from typing import Any

import pytest

from ccr_asgi.dashboard.details import MAX_DEPTH, tree
from ccr_asgi.dashboard.totals import NOTHING, TOTALS


def row(agent: str | None, parent: str | None, minute: int = 0, model: str = "m", **changes: Any) -> dict[str, Any]:
    nothing = {name: getattr(NOTHING, name) for name in TOTALS}
    at = f"2026-01-31T09:{minute:02}:00.000Z"
    told = {
        "agent_id": agent,
        "parent_agent_id": parent,
        "model": model,
        "first_at": at,
        "last_at": at,
        "busy_ms": 10.0,
    }
    return {**nothing, "requests": 1, **told, **changes}


def shape(rows: list[dict[str, Any]]) -> list[tuple[str | None, int]]:
    return [(branch.agent_id, depth) for branch, depth in tree(rows).flat()]


def test_each_agent_stands_below_the_one_that_started_it() -> None:
    rows = [row(None, None), row("a", None, 1), row("b", "a", 2), row("c", "a", 3), row("d", None, 4)]
    assert shape(rows) == [(None, 0), ("a", 1), ("b", 2), ("c", 2), ("d", 1)]


def test_a_branch_counts_all_below_it_and_its_own_apart() -> None:
    rows = [
        row(None, None, input_tokens=5, list_micro_usd=1),
        row("a", None, 1, input_tokens=10, list_micro_usd=None, list_unpriced=1),
        row("b", "a", 2, input_tokens=100, list_micro_usd=7),
        row("b", "a", 9, model="n", input_tokens=1000, list_micro_usd=70),
    ]
    main = tree(rows)
    (a,) = main.branches
    (b,) = a.branches
    assert (main.whole.input_tokens, main.own.input_tokens) == (1115, 5)
    assert (a.whole.list_micro_usd, a.whole.list_unpriced, a.own.list_micro_usd) == (77, 1, None)
    assert (main.whole_busy_ms, a.whole_busy_ms, b.busy_ms) == (40.0, 30.0, 20.0)
    assert (b.first_at, b.last_at, b.models) == ("2026-01-31T09:02:00.000Z", "2026-01-31T09:09:00.000Z", ["m", "n"])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row("a", "gone")], id="its parent made no request"),
        pytest.param([row("a", "a")], id="it is its own parent"),
    ],
)
def test_an_agent_without_a_parent_here_stands_under_the_main_conversation(rows: list[dict[str, Any]]) -> None:
    assert shape(rows) == [(None, 0), ("a", 1)]


def test_a_circle_loses_nobody() -> None:
    rows = [row("a", "b"), row("b", "a", 1), row("c", "b", 2)]
    assert sorted(shape(rows), key=str) == sorted([(None, 0), ("a", 1), ("b", 1), ("c", 1)], key=str)


def test_a_chain_without_end_is_cut() -> None:
    rows = [row(f"a{number}", f"a{number - 1}" if number else None, number % 60) for number in range(3 * MAX_DEPTH)]
    found = shape(rows)
    assert len(found) == 3 * MAX_DEPTH + 1
    assert max(depth for _, depth in found) <= MAX_DEPTH + 1
