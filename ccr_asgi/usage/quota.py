"""What an answer's header fields say about the subscription's limits: how much is used, and when it begins anew.

Pure, and never an error: what cannot be read as it is meant is left out. Sources of the wire facts:

- `x-codex-{primary,secondary}-{used-percent,window-minutes,reset-at,reset-after-seconds}`, `x-codex-plan-type` and
  `x-codex-credits-{has-credits,unlimited,balance}`, on every answer of the Codex backend; a limit that is not the
  account's own stands between, `x-codex-other-primary-…` (codex-rs, `codex-api/src/rate_limits.rs`).
- `anthropic-ratelimit-unified-{window}-{utilization,reset,status}` on answers to a Claude login, `utilization` as a
  share of 1; without a window, the account as a whole. Windows come and go (`5h`, `7d`, `7d_oi`, `overage`), so any
  name is taken.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ccr_asgi.errors import RawHeaders

WHOLE = "unified"
"""The window that stands for a Claude account as a whole."""
CREDITS = "credits"
"""The window that stands for bought credits, which no time resets."""

MAX_WINDOWS = 32
"""More in one answer are left out: no provider has them, and each becomes a row."""

_PREFIXES = (b"x-codex-", b"anthropic-ratelimit-unified-")
_NAME = rb"[a-z0-9_.]{1,32}(?:-[a-z0-9_.]{1,32}){0,3}?"
_FIELD = re.compile(
    rb"anthropic-ratelimit-unified-(?:(?P<claude>" + _NAME + rb")-)?(?P<claude_field>utilization|reset|status)"
    rb"|x-codex-(?P<codex>(?:" + _NAME + rb"-)?(?:primary|secondary))"
    rb"-(?P<codex_field>used-percent|window-minutes|reset-at|reset-after-seconds)"
)
_NUMBER = re.compile(rb"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_WORD = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_LENGTH = re.compile(r"([0-9]{1,4})([mhd])(?:_.*)?")
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}

MAX_USED_PERCENT = 1_000.0
MAX_WINDOW_MINUTES = 366 * 24 * 60
_LAST_RESET_S = 4_102_444_800  # 2100: milliseconds, say, are refused


@dataclass(frozen=True, slots=True)
class QuotaWindow:
    """One limit of one provider, as an answer told it.

    Attributes:
        provider: The provider that answered.
        window: The limit's name: `primary`, `secondary`, `5h`, `7d`, …; `unified` and `credits` are no windows of time.
        observed_at: When the answer came; UTC, aware.
        used_percent: 0 to 100, and above where more is allowed.
        window_minutes: How long the window is.
        resets_at: When it begins anew; UTC, aware.
        status: The provider's word, such as `allowed`, `allowed_warning` or `rejected`; of credits `unlimited`,
            `available` or `none`.
        plan: The subscription's name, such as `plus`.
        credits_balance: Credits that are left, in the provider's own unit.
    """

    provider: str
    window: str
    observed_at: datetime
    used_percent: float | None = None
    window_minutes: int | None = None
    resets_at: datetime | None = None
    status: str | None = None
    plan: str | None = None
    credits_balance: float | None = None


def parse_quota(provider: str, headers: RawHeaders, at: datetime) -> tuple[QuotaWindow, ...]:
    """The limits that the header fields of `provider`'s answer tell, which came `at` (aware); usually none."""
    told = {name.lower(): value.strip() for name, value in headers if name[:28].lower().startswith(_PREFIXES)}
    if not told:
        return ()
    windows: dict[str, dict[str, Any]] = {}
    for name, value in told.items():
        if match := _FIELD.fullmatch(name):
            window = str(match["claude"] or match["codex"] or WHOLE.encode(), "ascii")
            column, read = _READERS[match["claude_field"] or match["codex_field"]]
            if (fact := read(value, at)) is not None:
                windows.setdefault(window, {}).setdefault(column, fact)
    # Codex writes zeros for a window that it has not.
    found = [(window, facts) for window, facts in windows.items() if facts != {"used_percent": 0.0}]
    found += _credits(told)
    plan = _word(told.get(b"x-codex-plan-type", b""), at)
    return tuple(
        QuotaWindow(provider, window, at, **{"plan": plan, "window_minutes": _minutes(window), **facts})
        for window, facts in found[:MAX_WINDOWS]
    )


def newest(windows: Iterable[QuotaWindow]) -> list[QuotaWindow]:
    """Of each provider's windows the one that was observed last; of two at one moment, the first."""
    kept: dict[tuple[str, str], QuotaWindow] = {}
    for window in windows:
        before = kept.get(key := (window.provider, window.window))
        if before is None or window.observed_at > before.observed_at:
            kept[key] = window
    return list(kept.values())


def _credits(told: dict[bytes, bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    has, unlimited = (told.get(b"x-codex-credits-" + name, b"").lower() for name in (b"has-credits", b"unlimited"))
    if has not in (b"true", b"false"):
        return
    status = "unlimited" if unlimited == b"true" else "available" if has == b"true" else "none"
    balance = _number(told.get(b"x-codex-credits-balance", b"").lstrip(b"$"))
    yield CREDITS, {"status": status, "credits_balance": balance}


def _number(value: bytes) -> float | None:
    return float(value) if _NUMBER.fullmatch(value) else None


def _percent(value: bytes, _at: datetime) -> float | None:
    number = _number(value)
    return number if number is not None and number <= MAX_USED_PERCENT else None


def _share(value: bytes, _at: datetime) -> float | None:
    number = _number(value)
    return round(number * 100, 6) if number is not None and number * 100 <= MAX_USED_PERCENT else None


def _length(value: bytes, _at: datetime) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 1 <= number <= MAX_WINDOW_MINUTES else None


def _moment(value: bytes, _at: datetime) -> datetime | None:
    """Seconds since 1970, or an ISO 8601 time with its offset."""
    number = _number(value)
    if number is not None:
        return datetime.fromtimestamp(number, UTC) if 0 < number < _LAST_RESET_S else None
    try:
        moment = datetime.fromisoformat(str(value, "ascii"))
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _later(value: bytes, at: datetime) -> datetime | None:
    number = _number(value)
    return at + timedelta(seconds=number) if number is not None and number <= MAX_WINDOW_MINUTES * 60 else None


def _word(value: bytes, _at: datetime) -> str | None:
    return str(value, "ascii") if _WORD.fullmatch(value) else None


def _minutes(window: str) -> int | None:
    """The length that Anthropic gives a window as its name: `5h`, `7d_oi`."""
    match = _LENGTH.fullmatch(window)
    return int(match[1]) * _MINUTES[match[2]] or None if match else None


_READERS: dict[bytes, tuple[str, Callable[[bytes, datetime], Any]]] = {
    b"used-percent": ("used_percent", _percent),
    b"utilization": ("used_percent", _share),
    b"window-minutes": ("window_minutes", _length),
    b"reset-at": ("resets_at", _moment),
    b"reset": ("resets_at", _moment),
    b"reset-after-seconds": ("resets_at", _later),
    b"status": ("status", _word),
}
"""How each field is read, and as what: bytes and the moment of the answer to a value, or None if it makes no sense."""
