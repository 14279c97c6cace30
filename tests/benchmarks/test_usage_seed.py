"""The database that the benches measure has the columns of the day."""

from datetime import UTC, datetime
from pathlib import Path

from benchmarks.usage_seed import seed
from tests.support.server import read_rows


def test_a_seeded_database_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    seed(path, 500, 2, now=datetime(2026, 1, 31, tzinfo=UTC))
    assert read_rows(path, "select count(*) as rows, sum(output_tokens) > 0 as told from v_requests") == [
        {"rows": 500, "told": 1}
    ]
