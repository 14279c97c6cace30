"""What a database can store, and what importing the parts of usage costs."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccr_asgi.usage.tables import MAX_COUNT, MAX_TEXT_CHARS, iso_utc, metadata, storable, storable_count


def test_every_column_says_what_it_means() -> None:
    columns = [column for table in metadata.sorted_tables for column in table.columns]
    assert [f"{column.table.name}.{column.name}" for column in columns if not column.doc] == []


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (None, None),
        ("", ""),
        ("gpt-oss-120b", "gpt-oss-120b"),
        ("<script>", "<script>"),
        ("a\ud83dz", "a?z"),
        ("a\0z", "a\ufffdz"),
        ("x" * 10_000, "x" * MAX_TEXT_CHARS),
    ],
)
def test_any_text_can_be_stored(text: str | None, stored: str | None) -> None:
    assert storable(text) == stored


@pytest.mark.parametrize(
    ("count", "stored"), [(None, None), (0, 0), (MAX_COUNT, MAX_COUNT), (MAX_COUNT + 1, None), (-1, None)]
)
def test_a_count_that_cannot_be_meant_is_no_count(count: int | None, stored: int | None) -> None:
    assert storable_count(count) == stored


def test_time_is_written_in_utc() -> None:
    assert iso_utc(datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))) == "2025-12-31T23:30:00.000Z"


moments = st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))


@given(moments, moments)
def test_written_time_sorts_as_time_does(one: datetime, other: datetime) -> None:
    one, other = (moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in (one, other))
    assert (iso_utc(one) < iso_utc(other)) == (one < other)
    assert len(iso_utc(one)) == 24


@pytest.mark.parametrize("module", ["record", "quota", "accumulator", "writer", "errors"])
def test_the_parts_on_the_way_of_a_request_load_no_database(module: str) -> None:
    code = f"import sys, ccr_asgi.usage.{module}; sys.exit(int(bool({{'sqlalchemy', 'alembic'}} & set(sys.modules))))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
