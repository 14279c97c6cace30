"""Thinking as an effort level."""

from typing import Any

import pytest

from ccr_asgi.formats.reasoning_effort import RESPONSES_BUDGETS, nearest, reasoning_effort, reasons
from ccr_asgi.quirks import PRESETS, Quirks
from tests.formats.requests import body, refusal, sent


def effort(model: str = "m", quirks: Quirks | None = None, **fields: Any) -> Any:
    return sent(quirks=quirks, model=model, **fields).get("reasoning_effort")


def enabled(budget_tokens: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget_tokens}


@pytest.mark.parametrize(
    ("budget_tokens", "expected"),
    [(1024, "low"), (4095, "low"), (4096, "medium"), (16383, "medium"), (16384, "high"), (31999, "high")],
)
def test_a_budget(budget_tokens: int, expected: str) -> None:
    assert effort(thinking=enabled(budget_tokens)) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "high"),
        ("max", "high"),
        ("a level of tomorrow", None),
        (None, None),
    ],
)
@pytest.mark.parametrize(
    "thinking",
    [{"type": "adaptive", "display": "omitted"}, {"type": "between_tools"}, {"type": "of_tomorrow"}, {}, None],
)
def test_adaptive_thinking_follows_the_effort(wanted: str | None, expected: str | None, thinking: Any) -> None:
    assert effort(thinking=thinking, output_config={"effort": wanted}) == expected


def test_without_a_wish_nothing_is_sent() -> None:
    assert "reasoning_effort" not in sent(thinking={"type": "adaptive"})
    assert "reasoning_effort" not in sent(thinking={"type": "disabled"}, output_config={"effort": "high"})


def test_a_budget_wins_over_an_effort() -> None:
    assert effort(thinking=enabled(1024), output_config={"effort": "max"}) == "low"


@pytest.mark.parametrize(
    ("budget_tokens", "expected"),
    [
        (1, "low"),
        (1024, "low"),
        (1025, "medium"),
        (8192, "medium"),
        (8193, "high"),
        (24_576, "high"),
        (24_577, "xhigh"),
    ],
)
def test_a_budget_of_the_responses_api(budget_tokens: int, expected: str) -> None:
    quirks = Quirks(efforts={"*": ("low", "medium", "high", "xhigh", "max")})
    assert reasoning_effort({"thinking": enabled(budget_tokens)}, "m", quirks, budgets=RESPONSES_BUDGETS) == expected


@pytest.mark.parametrize(
    ("effort_first", "wanted", "expected"),
    [(True, "medium", "medium"), (True, None, "high"), (False, "medium", "high"), (False, None, "high")],
)
def test_an_effort_wins_over_a_budget_where_it_is_to(effort_first: bool, wanted: str | None, expected: str) -> None:
    request = {"thinking": enabled(16_384), "output_config": {"effort": wanted}}
    assert reasoning_effort(request, "m", Quirks(), effort_first=effort_first) == expected


def test_an_effort_that_wins_spares_the_budget() -> None:
    request = {"thinking": {"type": "enabled"}, "output_config": {"effort": "low"}}
    assert reasoning_effort(request, "m", Quirks(), effort_first=True) == "low"


@pytest.mark.parametrize(
    ("quirks", "expected"),
    [(Quirks(), True), (Quirks(reasoning_effort=False), False), (Quirks(efforts={"*": ()}), False)],
)
def test_a_model_reasons_if_it_may_be_told_how_hard(quirks: Quirks, expected: bool) -> None:
    assert reasons("m", quirks) is expected


@pytest.mark.parametrize(
    ("model", "expected"), [("gpt-oss-120b", None), ("qwen-3.8-27b", "none"), ("zai-glm-4.7", "none")]
)
def test_thinking_off_by_model(model: str, expected: str | None) -> None:
    assert effort(model, PRESETS["cerebras"], thinking={"type": "disabled"}) == expected


def test_a_provider_without_the_field_gets_none() -> None:
    assert effort(quirks=Quirks(reasoning_effort=False), thinking=enabled(20_000)) is None


def test_levels_by_model() -> None:
    quirks = Quirks(efforts={"*": ("minimal", "xhigh"), "plain-*": ()})
    assert effort("m", quirks, output_config={"effort": "max"}) == "xhigh"
    assert effort("m", quirks, output_config={"effort": "medium"}) == "minimal"
    assert effort("plain-1", quirks, output_config={"effort": "medium"}) is None


@pytest.mark.parametrize(
    ("wanted", "taken", "expected"),
    [("low", ("high", "medium"), "medium"), ("max", ("low", "high"), "high"), ("none", ("none",), "none")],
)
def test_the_nearest_level(wanted: str, taken: tuple[str, ...], expected: str) -> None:
    assert nearest(wanted, taken) == expected


def test_there_is_no_nearest_of_none() -> None:
    assert nearest("low", ()) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"thinking": True}, "thinking: found true; accepted: an object."),
        ({"thinking": {"budget_tokens": 1}}, "thinking.type: found nothing; accepted: a string."),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens: found nothing; accepted: an integer."),
        (
            {"thinking": {"type": "enabled", "budget_tokens": True}},
            "thinking.budget_tokens: found true; accepted: an int",
        ),
        ({"output_config": []}, "output_config: found an array; accepted: an object."),
        ({"output_config": {"effort": 3}}, "output_config.effort: found the number 3; accepted: a string."),
    ],
)
def test_wrong_types_are_refused(fields: dict[str, Any], expected: str) -> None:
    assert refusal(body(**fields)).startswith(expected)
