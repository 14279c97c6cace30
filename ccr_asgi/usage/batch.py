"""A group of records on its way into the database: valued and made into rows, off the event loop.

What comes out is plain values, so that the transaction that stores them is short.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from logging import getLogger
from typing import TYPE_CHECKING

from ccr_asgi.usage.quota import newest
from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.rows import Row, amounts, attempt_rows, price_row, quota_row, request_row
from ccr_asgi.usage.tables import iso_utc

if TYPE_CHECKING:
    from ccr_asgi.pricing import Valuation

logger = getLogger(__name__)

Value = Callable[[UsageRecord], "Valuation"]
"""What a record is worth. It is only ever called in a thread, or at exit: the first call loads the prices."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows for the tables of these names."""

    requests: Sequence[Row]
    attempts: Sequence[Row]
    prices: Sequence[Row]
    quota: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Repricing:
    """Rows for the tables of these names: requests that are there already, priced anew."""

    repricings: Sequence[Row]
    prices: Sequence[Row]


def prepare(records: Sequence[UsageRecord], value: Value | None = None) -> Batch:
    """The rows that `records` become; without `value` they have no price."""
    valuations = [valued(record, value) for record in records]
    return Batch(
        requests=[request_row(record, valuation) for record, valuation in zip(records, valuations, strict=True)],
        attempts=[row for record in records for row in attempt_rows(record)],
        prices=_prices((iso_utc(record.started_at), found) for record, found in zip(records, valuations, strict=True)),
        quota=[quota_row(window) for window in newest(window for record in records for window in record.quota)],
    )


def prepare_repricing(valuations: Mapping[str, "Valuation"], at: datetime) -> Repricing:
    """The rows that new `valuations`, by request id, become."""
    moment = iso_utc(at)
    return Repricing(
        repricings=[
            {"request_id": request_id, "repriced_at": moment, **amounts(valuation)}
            for request_id, valuation in valuations.items()
        ],
        prices=_prices((moment, valuation) for valuation in valuations.values()),
    )


def valued(record: UsageRecord, value: Value | None) -> "Valuation | None":
    """What `record` is worth; None where nobody can tell, or telling it fails."""
    try:
        return None if value is None else value(record)
    except Exception:
        logger.exception("the price of request %s could not be told; it is stored without one", record.id)
        return None


def _prices(valuations: Iterable[tuple[str, "Valuation | None"]]) -> list[Row]:
    """Each price that was used, once, with the first moment it was used at."""
    rows: dict[str, Row] = {}
    for moment, valuation in valuations:
        for price in (valuation.price, valuation.baseline) if valuation is not None else ():
            if price is not None and (price.id not in rows or moment < rows[price.id]["first_used_at"]):
                rows[price.id] = price_row(price, moment)
    return list(rows.values())
