"""The header fields in which providers tell how much of a limit is used: here a share that rises with the clock.

Names and units are those that the providers' real answers have (see `ccr_asgi.usage.quota`).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from ccr_asgi.errors import RawHeaders

FIVE_HOURS_S = 5 * 3600
WEEK_S = 7 * 24 * 3600
DAY_S = 24 * 3600


def _of_anthropic(at: datetime) -> dict[str, object]:
    told: dict[str, object] = {"anthropic-ratelimit-unified-status": "allowed"}
    for name, length_s, peak in (("5h", FIVE_HOURS_S, 0.62), ("7d", WEEK_S, 0.81)):
        used, resets_at_s = _window(at, length_s, peak)
        told[f"anthropic-ratelimit-unified-{name}-status"] = "allowed"
        told[f"anthropic-ratelimit-unified-{name}-utilization"] = f"{used:.4f}"
        told[f"anthropic-ratelimit-unified-{name}-reset"] = resets_at_s
    return told


def _of_cerebras(at: datetime) -> dict[str, object]:
    used, resets_at_s = _window(at, DAY_S, 0.35)
    return {
        "x-ratelimit-limit-requests-day": 14_400,
        "x-ratelimit-remaining-requests-day": round(14_400 * (1 - used)),
        "x-ratelimit-reset-requests-day": f"{resets_at_s - at.timestamp():.3f}",
    }


def _of_codex(at: datetime) -> dict[str, object]:
    told: dict[str, object] = {"x-codex-plan-type": "plus"}
    for name, length_s, peak in (("primary", FIVE_HOURS_S, 0.48), ("secondary", WEEK_S, 0.57)):
        used, resets_at_s = _window(at, length_s, peak)
        told[f"x-codex-{name}-used-percent"] = f"{used * 100:.1f}"
        told[f"x-codex-{name}-window-minutes"] = length_s // 60
        told[f"x-codex-{name}-reset-at"] = resets_at_s
    return told


_LIMITS: Mapping[str, Callable[[datetime], Mapping[str, object]]] = {
    "anthropic": _of_anthropic,
    "cerebras": _of_cerebras,
    "codex": _of_codex,
}


def limits(provider: str, at: datetime) -> RawHeaders:
    """The fields of an answer of `provider` at this moment (aware)."""
    return [(name.encode(), str(value).encode()) for name, value in _LIMITS[provider](at).items()]


def _window(at: datetime, length_s: int, peak: float) -> tuple[float, int]:
    """How much of a window is used, from 0 up to `peak` at its end, and when it ends, in epoch seconds."""
    elapsed = (at - datetime.fromtimestamp(0, UTC)) % timedelta(seconds=length_s)
    share = elapsed / timedelta(seconds=length_s)
    return share * peak, round((at - elapsed).timestamp()) + length_s
