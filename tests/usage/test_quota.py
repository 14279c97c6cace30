"""What the header fields of an answer tell of the limits, and that nothing in them is an error of ours."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.usage.quota import MAX_WINDOWS, QuotaWindow, newest, parse_quota

AT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
RESET_S = 1_769_860_800
RESET = datetime.fromtimestamp(RESET_S, UTC)


def parse(**fields: str) -> tuple[QuotaWindow, ...]:
    """What header fields tell; `_` stands for `-`."""
    headers = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in fields.items()]
    return parse_quota("codex", [(b"content-type", b"text/event-stream"), *headers], AT)


def claude(**fields: str) -> tuple[QuotaWindow, ...]:
    headers = [
        (f"anthropic-ratelimit-unified-{name.replace('__', '-')}".encode(), value.encode())
        for name, value in fields.items()
    ]
    return parse_quota("anthropic", headers, AT)


def test_most_answers_tell_nothing() -> None:
    assert parse_quota("cerebras", [], AT) == ()
    assert parse_quota("cerebras", [(b"X-RateLimit-Remaining", b"3"), (b"x-codec", b"1")], AT) == ()


def test_codex_tells_two_windows_its_plan_and_credits() -> None:
    found = parse(
        x_codex_primary_used_percent="25.5",
        x_codex_primary_window_minutes="300",
        x_codex_primary_reset_at=str(RESET_S),
        x_codex_secondary_used_percent="7",
        x_codex_secondary_window_minutes="10080",
        x_codex_secondary_reset_after_seconds="3600",
        x_codex_plan_type="plus",
        x_codex_credits_has_credits="true",
        x_codex_credits_unlimited="false",
        x_codex_credits_balance="$12.50",
        x_codex_primary_over_secondary_limit_percent="0",
    )
    assert found == (
        QuotaWindow("codex", "primary", AT, 25.5, 300, RESET, plan="plus"),
        QuotaWindow("codex", "secondary", AT, 7.0, 10_080, AT + timedelta(hours=1), plan="plus"),
        QuotaWindow("codex", "credits", AT, status="available", plan="plus", credits_balance=12.5),
    )


def test_a_window_of_zeros_is_none() -> None:
    assert parse(x_codex_secondary_used_percent="0.0", x_codex_secondary_window_minutes="0") == ()
    (found,) = parse(x_codex_primary_used_percent="0", x_codex_primary_window_minutes="300")
    assert (found.used_percent, found.window_minutes) == (0.0, 300)


def test_a_limit_of_its_own_is_kept_by_its_name() -> None:
    (found,) = parse(x_codex_other_primary_used_percent="80")
    assert (found.window, found.used_percent) == ("other-primary", 80.0)


def test_the_time_of_a_reset_is_taken_before_what_is_left_until_it() -> None:
    (found,) = parse(x_codex_primary_reset_at=str(RESET_S), x_codex_primary_reset_after_seconds="5")
    assert found.resets_at == RESET
    (found,) = parse(x_codex_primary_reset_at="soon", x_codex_primary_reset_after_seconds="5")
    assert found.resets_at == AT + timedelta(seconds=5)


@pytest.mark.parametrize(
    ("has", "unlimited", "balance", "status", "left"),
    [
        ("true", "true", "", "unlimited", None),
        ("True", "False", "9.99", "available", 9.99),
        ("false", "false", "0", "none", 0.0),
        ("true", "false", "much", "available", None),
    ],
)
def test_credits(has: str, unlimited: str, balance: str, status: str, left: float | None) -> None:
    (found,) = parse(
        x_codex_credits_has_credits=has, x_codex_credits_unlimited=unlimited, x_codex_credits_balance=balance
    )
    assert (found.window, found.status, found.credits_balance) == ("credits", status, left)


def test_credits_that_say_nothing_are_none() -> None:
    assert parse(x_codex_credits_has_credits="perhaps", x_codex_credits_balance="3") == ()


def test_a_claude_login_tells_its_windows_and_the_whole() -> None:
    found = claude(
        **{
            "status": "allowed_warning",
            "reset": str(RESET_S),
            "representative__claim": "five_hour",
            "fallback__percentage": "0.5",
            "5h__status": "allowed",
            "5h__utilization": "0.29",
            "5h__reset": str(RESET_S),
            "7d_oi__utilization": "1.02",
            "7d_oi__status": "rejected",
            "7d_oi__surpassed__threshold": "1.0",
            "overage__status": "rejected",
            "overage__disabled__reason": "org_level_disabled",
            "some__new__window__utilization": "0.5",
        }
    )
    assert {window.window: window for window in found} == {
        "unified": QuotaWindow("anthropic", "unified", AT, resets_at=RESET, status="allowed_warning"),
        "5h": QuotaWindow("anthropic", "5h", AT, 29.0, 300, RESET, "allowed"),
        "7d_oi": QuotaWindow("anthropic", "7d_oi", AT, 102.0, 10_080, None, "rejected"),
        "overage": QuotaWindow("anthropic", "overage", AT, status="rejected"),
        "some-new-window": QuotaWindow("anthropic", "some-new-window", AT, 50.0),
    }


@pytest.mark.parametrize(
    ("reset", "moment"),
    [
        (str(RESET_S), RESET),
        (f"{RESET_S}.5", RESET + timedelta(seconds=0.5)),
        ("2026-01-31T12:00:00+00:00", RESET),
        ("2026-01-31T14:00:00+02:00", RESET),
        ("2026-01-31T12:00:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        (str(RESET_S * 1000), None),
        ("0", None),
        ("tomorrow", None),
    ],
)
def test_a_reset_is_a_moment_or_nothing(reset: str, moment: datetime | None) -> None:
    (found,) = claude(**{"5h__status": "allowed", "5h__reset": reset})
    assert found.resets_at == moment


@pytest.mark.parametrize("number", ["", "-1", "nan", "inf", "1e3", "1_0", "0x10", "9" * 400, "12%", "\u00b2"])
def test_a_bad_number_is_left_out(number: str) -> None:
    (found,) = parse(
        x_codex_primary_used_percent=number,
        x_codex_primary_window_minutes="300",
        x_codex_primary_reset_at=number,
        x_codex_primary_reset_after_seconds=number,
    )
    assert (found.used_percent, found.window_minutes, found.resets_at) == (None, 300, None)
    assert parse(x_codex_primary_window_minutes=number) == ()
    assert claude(**{"5h__utilization": number}) == ()


@pytest.mark.parametrize(
    ("field", "number"), [("used_percent", "1001"), ("window_minutes", "999999999"), ("reset_after_seconds", "9" * 12)]
)
def test_a_number_that_cannot_be_meant_is_left_out(field: str, number: str) -> None:
    assert parse(**{f"x_codex_primary_{field}": number}) == ()
    assert claude(**{"5h__utilization": "11"}) == ()


@pytest.mark.parametrize("status", ["", "two words", "<b>", "x" * 65])
def test_a_status_is_one_word(status: str) -> None:
    assert claude(**{"5h__status": status}) == ()


def test_names_are_read_without_case_and_values_without_blanks() -> None:
    (found,) = parse_quota("codex", [(b"X-Codex-Primary-Used-Percent", b" 3 ")], AT)
    assert found.used_percent == 3.0


def test_a_window_without_a_length_in_its_name_has_none() -> None:
    lengths = {w.window: w.window_minutes for w in claude(**{f"{n}__utilization": "0.1" for n in ("30m", "0h", "5hx")})}
    assert lengths == {"30m": 30, "0h": None, "5hx": None}


def test_the_windows_of_one_answer_are_bounded() -> None:
    headers = [(b"anthropic-ratelimit-unified-%dh-utilization" % n, b"0.1") for n in range(1, 500)]
    assert len(parse_quota("anthropic", headers, AT)) == MAX_WINDOWS


_PARTS = st.sampled_from(
    [b"x-codex-", b"anthropic-ratelimit-unified-", b"primary-", b"5h-", b"used-percent", b"utilization", b"reset",
     b"reset-at", b"reset-after-seconds", b"window-minutes", b"status", b"credits-has-credits", b"\xff", b"-", b"true"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(_PARTS, max_size=5).map(b"".join), st.binary(max_size=30) | _PARTS), max_size=8))
def test_no_header_is_an_error(headers: list[tuple[bytes, bytes]]) -> None:
    for window in parse_quota("any", headers, AT):
        assert window.used_percent is None or 0 <= window.used_percent <= 1_000
        assert window.resets_at is None or window.resets_at.tzinfo is UTC


def test_of_several_answers_the_newest_is_kept_for_each_window() -> None:
    early, late = QuotaWindow("a", "5h", AT, 1.0), QuotaWindow("a", "5h", AT + timedelta(seconds=1), 2.0)
    zoned = replace(early, observed_at=AT.astimezone(timezone(timedelta(hours=2))), used_percent=9.0)
    other = replace(early, provider="b")
    assert newest([early, late, zoned, other]) == [late, other]
    assert newest([late, early]) == [late]
    assert newest([]) == []
