"""The quota of each provider as a page shows it: the limits that were told last, with what to expect of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from ccr_asgi.usage.forecast import Forecast, forecast
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.tables import quota

_GENERIC = ("primary", "secondary")
"""Names that tell no length, which people know a limit by."""


@dataclass(frozen=True, slots=True)
class QuotaMeter:
    """One limit of one provider.

    Attributes:
        window: As it was last told.
        forecast: What to expect of it.
    """

    window: QuotaWindow
    forecast: Forecast

    @property
    def label(self) -> str:
        """What people call it: its length (`5h`, `7d`) where its name tells none."""
        name, minutes = self.window.window, self.window.window_minutes
        for generic in _GENERIC:
            if minutes and name.endswith(generic):
                return name.removesuffix(generic) + length_name(minutes)
        return name

    @property
    def used_percent(self) -> float | None:
        """How much is used now; None if it is not known, as of a window that has begun anew."""
        return None if self.forecast.outlook == "begun-anew" else self.window.used_percent


def read_meters(connection: Connection, now: datetime) -> list[QuotaMeter]:
    """All limits that any provider ever told, by provider, the shorter windows first; `now` is aware."""
    found = [_window(row) for row in connection.execute(select(quota)).mappings()]
    found.sort(key=lambda window: (window.provider, window.window_minutes or float("inf"), window.window))
    return [QuotaMeter(window, forecast(window, now)) for window in found]


def length_name(minutes: int) -> str:
    """A window's length in the largest unit that it is a whole number of: `5h`, `7d`, `90m`."""
    for size, unit in ((1440, "d"), (60, "h")):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def _window(row: Any) -> QuotaWindow:
    told = dict(row)
    moments = {name: _moment(told.pop(name)) for name in ("observed_at", "resets_at")}
    return QuotaWindow(window=told.pop("window_name"), **moments, **told)


def _moment(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)
