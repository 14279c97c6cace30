"""Whether a limit lasts until it begins anew, told from the pace since it began.

One number at one moment is all that an answer tells, so the pace is that of the whole window up to then. Somebody who
has just begun to work, or just stopped, goes at another pace than that: the forecast says what it is made of.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from ccr_asgi.usage.quota import QuotaWindow

Outlook = Literal["lasts", "runs-out", "used-up", "begun-anew", "unknown"]

EARLY_SHARE = 0.05
"""Less of a window tells nothing of its rest."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of a limit.

    Attributes:
        outlook: `lasts` and `runs-out` are said of the rest of the window, `used-up` of now; `begun-anew` means that
            what was told is of a window which has ended since; `unknown` that nothing can be said.
        because: What that is reckoned from, for a person.
        runs_out_at: When it is used up at that pace; UTC, aware. Only with `runs-out`.
    """

    outlook: Outlook
    because: str
    runs_out_at: datetime | None = None


def forecast(window: QuotaWindow, now: datetime) -> Forecast:
    """What is to be expected of `window`, as it was last told, at the moment `now` (aware)."""
    used, resets_at = window.used_percent, window.resets_at
    if resets_at is not None and resets_at <= now:
        return Forecast("begun-anew", "It has begun anew since it was last told.")
    if used is not None and used >= 100:
        return Forecast("used-up", f"{used:g} % was used when it was last told.")
    if used is None or resets_at is None or not window.window_minutes:
        return Forecast("unknown", "What is used, the window's length and its end are not all told.")
    length = timedelta(minutes=window.window_minutes)
    elapsed = window.observed_at - (resets_at - length)
    if not EARLY_SHARE * length <= elapsed <= length:
        return Forecast("unknown", "It has only just begun.")
    because = f"{used:g} % was used in the first {spell(elapsed)} of {spell(length)}."
    # What is left, as a share of what is used, takes that share of the time again.
    left = elapsed * ((100 - used) / used) if used > 0 else length
    runs_out_at = window.observed_at + min(left, length)
    if runs_out_at >= resets_at:
        return Forecast("lasts", because)
    return Forecast("runs-out", because, max(runs_out_at, now))


def spell(duration: timedelta) -> str:
    """A duration in its two largest units, such as `2 d 3 h`, `1 h 20 min` or `5 min`; seconds are cut off."""
    minutes = max(0, int(duration.total_seconds() // 60))
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min")]
    first = next((place for place, (count, _) in enumerate(parts) if count), 2)
    told = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return " ".join(told) or "0 min"
