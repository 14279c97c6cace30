"""`ccr-asgi usage`: the dashboard's numbers, for a terminal and for programs."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ccr_asgi.cli import main
from ccr_asgi.cli_usage import local_zone
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import record
from tests.usage.valuations import valuation

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three requests of the last days, one without a price, and an old one."""
    path = tmp_path / "usage.db"
    now = datetime.now(UTC)
    store = UsageStore(path)
    await store.start()
    await store.insert(
        [
            record("a", started_at=now - timedelta(hours=1)),
            record("b", started_at=now - timedelta(hours=2), agent_id=None),
            record("c", started_at=now - timedelta(hours=3), model="unpriced", outcome="error", status=429),
            record("old", started_at=now - timedelta(days=20)),
        ]
    )
    await store.reprice({"a": valuation(1_500_000, 2_000_000, 500_000), "b": valuation(0, 1_000_000, 0)}, now)
    await store.stop()
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"usage": {"database": str(path)}}))
    monkeypatch.setenv("CCR_ASGI_CONFIG", str(file))
    return path


@pytest.fixture
def run(database: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["usage", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_a_table_with_the_sums_at_its_end(run: Run) -> None:
    code, said, _ = run()
    assert code == 0
    head, first, second, whole = said.splitlines()
    assert head.split()[:3] == ["model", "requests", "errors"]
    assert first.split()[:3] == ["gpt-oss-120b", "2", "0"]
    assert first.split()[-3:] == ["1.5000", "3.0000", "0.5000"]
    assert (second.split()[0], second.split()[-1]) == ("unpriced", "-")
    assert whole.split()[:3] == ["all", "3", "1"]


def test_groups_filters_and_ranges(run: Run) -> None:
    assert [line.split()[0] for line in run("--by", "agent")[1].splitlines()[1:]] == ["agent-1", "-", "all"]
    assert run("--agent", "-")[1].splitlines()[-1].split()[1] == "1"
    assert run("--status", "429")[1].splitlines()[-1].split()[1] == "1"
    assert run("--range", "all")[1].splitlines()[-1].split()[1] == "4"
    since = (datetime.now(UTC) - timedelta(days=30)).date().isoformat()
    assert run("--from", since, "--tz", "Asia/Tokyo")[1].splitlines()[-1].split()[1] == "4"


def test_json_is_that_of_the_api(run: Run) -> None:
    told = json.loads(run("--json", "--by", "agent")[1])
    assert told["summary"]["requests"] == told["total"] == 3
    assert told["summary"]["billed_usd"] == 1.5
    assert {"by_provider", "by_model", "series", "requests"} <= told.keys()


def test_csv_has_every_request(
    database: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr("ccr_asgi.dashboard.routes.BATCH_ROWS", 2)
    assert main(["usage", "--csv", "--range", "all"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode())))
    assert [row["id"] for row in rows] == ["old", "c", "b", "a"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--range", "9d"), "accepted: 1h, 6h"),
        (("--tz", "Mars"), "Europe/Berlin"),
        (("--status", "many"), "429"),
        (("--from", "yesterday"), "2026-01-31"),
    ],
)
def test_what_is_not_understood_is_said(run: Run, arguments: tuple[str, ...], words: str) -> None:
    code, _, complaint = run(*arguments)
    assert code == 2
    assert words in complaint


def test_the_installed_command(database: Path) -> None:
    command = Path(sys.executable).with_name("ccr-asgi")
    environment = {"HOME": str(database.parent), "CCR_ASGI_CONFIG": str(database.parent / "config.json")}
    ended = subprocess.run([command, "usage"], env=environment, capture_output=True, text=True, timeout=50, check=True)
    assert ended.stdout.splitlines()[-1].startswith("all")


@pytest.mark.parametrize(("variable", "zone"), [("Asia/Tokyo", "Asia/Tokyo"), (":Europe/Berlin", "Europe/Berlin")])
def test_the_machines_time_zone(monkeypatch: pytest.MonkeyPatch, variable: str, zone: str) -> None:
    monkeypatch.setenv("TZ", variable)
    assert local_zone() == zone


def test_a_time_zone_that_is_not_told_is_utc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZ", "nonsense")
    monkeypatch.setattr("ccr_asgi.cli_usage.ZONES", "no such folder/")
    assert local_zone() == "UTC"
