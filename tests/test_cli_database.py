"""`ccr-asgi import` and `ccr-asgi db`, as they are installed and as they are written."""

import json
import os
import pty
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from ccr_asgi import cli_verbs
from ccr_asgi.cli import main
from ccr_asgi.cli_verbs import subscriptions
from ccr_asgi.config import parse_config
from ccr_asgi.usage import importer
from ccr_asgi.usage.maintenance import Vacuumed
from ccr_asgi.usage.tables import SCHEMA_REVISION

COMMAND = Path(sys.executable).with_name("ccr-asgi")
LINE = {
    "timestamp": "2026-01-31T09:30:00.123Z",
    "provider": "cerebras",
    "model": "gpt-oss-120b",
    "inputTokens": 1_000_000,
    "outputTokens": 2_000_000,
    "cacheReadTokens": 0,
    "cacheCreationTokens": 0,
    "totalTokens": 3_000_000,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, which is also where the command runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CCR_ASGI_")}
    monkeypatch.setattr(os, "environ", kept | {"HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "100"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def path(home: Path) -> Path:
    return home / ".claude-code-router" / "usage.db"


def configure(home: Path, **config: Any) -> None:
    folder = home / ".claude-code-router"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


def priced(home: Path, output_usd: float) -> None:
    """A configuration by which a million tokens of input cost a dollar."""
    costs = {"gpt-oss-120b": {"input": 1.0, "output": output_usd}}
    configure(home, providers={"cerebras": {"apiKey": "k"}}, usage={"costs": costs})


def write(file: Path, *lines: dict[str, Any] | str) -> Path:
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def installed(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(line, env=os.environ, text=True, check=False, **{"capture_output": True} | options)


# The installed command


def test_the_installed_command_imports_once(home: Path, path: Path) -> None:
    file = write(home / "usage.jsonl", LINE, LINE, "oops", LINE | {"id": "req_1"})
    done = installed("import", file)
    assert (done.returncode, done.stdout) == (1, "4 lines: 3 imported, 0 there already, 1 bad\n")
    assert done.stderr.startswith(f"ccr-asgi: {file}:3: not JSON")
    assert installed("import", file).stdout == "4 lines: 0 imported, 3 there already, 1 bad\n"
    assert query(path, "SELECT COUNT(*) FROM v_requests") == [(3,)]


def test_the_installed_command_copies_and_vacuums(home: Path, path: Path) -> None:
    installed("import", write(home / "usage.jsonl", LINE))
    copied = installed("db", "backup", "copy.db")
    assert (copied.returncode, copied.stderr) == (0, "")
    assert copied.stdout.startswith(f"{path}: 0.")
    assert copied.stdout.endswith(" MB copied to copy.db\n")
    assert query(home / "copy.db", "SELECT COUNT(*) FROM requests") == [(1,)]
    assert stat.S_IMODE((home / "copy.db").stat().st_mode) == 0o600
    vacuumed = installed("db", "vacuum")
    assert (vacuumed.returncode, vacuumed.stderr) == (0, "")
    assert " MB freed, 0." in vacuumed.stdout


def on_a_terminal(*arguments: str | Path) -> tuple[str, str]:
    """What the installed command writes to its standard output, and to a terminal as its standard error."""
    ours, theirs = pty.openpty()
    line = [str(COMMAND), *map(str, arguments)]
    with subprocess.Popen(line, env=os.environ, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how Linux says that nobody has the terminal open any more
            while some := os.read(ours, 4096):
                shown += some
        os.close(ours)
        out, _ = process.communicate()
    assert process.returncode == 0
    return out, shown.decode()


def test_a_bar_is_shown_on_a_terminal_alone(home: Path) -> None:
    file = write(home / "usage.jsonl", LINE)
    out, shown = on_a_terminal("import", file)
    assert "importing usage.jsonl" in shown
    assert "100%" in shown
    assert out == "1 lines: 1 imported, 0 there already, 0 bad\n"
    out, shown = on_a_terminal("import", file, "--quiet")
    assert (out, shown) == ("1 lines: 0 imported, 1 there already, 0 bad\n", "")
    assert "copying" in on_a_terminal("db", "backup", "copy.db")[1]
    assert "writing it anew" in on_a_terminal("db", "vacuum")[1]
    assert "pricing" in on_a_terminal("db", "reprice")[1]


# Import


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a verb in this process: its exit code, what it said and what it complained about."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


Run = Callable[..., tuple[int, str, str]]


def test_a_good_file_is_no_failure(run: Run, home: Path, path: Path) -> None:
    code, _, err = run("import", write(home / "usage.jsonl", LINE))
    assert (code, err) == (0, "")


def test_the_summary_can_be_read_by_programs(run: Run, home: Path) -> None:
    file = write(home / "usage.jsonl", LINE, "oops", LINE, "[]")
    run("import", file)
    code, out, err = run("import", file, "--json")
    assert (code, err) == (1, "")
    summary = json.loads(out)
    assert summary.pop("first_bad")[1] == {"line": 4, "reason": "not a JSON object"}
    size_bytes = file.stat().st_size
    counts = {"lines": 4, "imported": 0, "known": 2, "bad": 2}
    assert summary == {"file": str(file), "read_bytes": size_bytes, **counts}


def test_what_is_imported_has_a_price(run: Run, home: Path, path: Path) -> None:
    priced(home, output_usd=2.0)
    run("import", write(home / "usage.jsonl", LINE))
    assert query(path, "SELECT billed_usd, list_usd FROM v_requests") == [(5.0, 5.0)]


def test_more_bad_lines_than_are_told(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "MAX_BAD_LINES_TOLD", 2)
    code, out, err = run("import", write(home / "u", *["oops"] * 5))
    assert (code, out) == (1, "5 lines: 0 imported, 0 there already, 5 bad\n")
    assert err.splitlines()[2:] == [f"ccr-asgi: {home}/u: 3 more bad lines"]


@pytest.mark.parametrize(("name", "reason"), [("nothing", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(name: str, reason: str, run: Run, home: Path, path: Path) -> None:
    code, out, err = run("import", name)
    assert (code, out) == (2, "")
    assert f"ccr-asgi: {name} cannot be read: {reason}" in err
    assert not path.exists()


def test_a_subscription_is_what_the_configuration_says(run: Run, home: Path, path: Path) -> None:
    lines = [LINE | {"provider": provider, "id": provider} for provider in ("anthropic", "codex", "cerebras")]
    file = write(home / "usage.jsonl", *lines)
    run("import", file, "--billed", "anthropic", "--billed", "nobody")
    assert dict(query(path, "SELECT provider, subscription FROM requests")) == {
        "anthropic": 0,
        "codex": 1,
        "cerebras": 0,
    }


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        ({}, {"anthropic", "codex"}),
        ({"anthropic": {"apiKey": "k"}, "codex": {"apiKey": "k"}}, set()),
        ({"codex": {}}, {"anthropic", "codex"}),
        ({"work": {"type": "anthropic", "baseUrl": "https://a.example", "passthrough": True}, "codex": {"apiKey": "k"}},
         {"anthropic", "work"}),
    ],
)  # fmt: skip
def test_who_is_paid_by_a_subscription(providers: dict[str, Any], expected: set[str]) -> None:
    assert subscriptions(parse_config({"providers": providers})) == expected


# Upgrade


def test_an_upgrade_says_from_where_to_where(run: Run, path: Path) -> None:
    assert run("db", "upgrade") == (0, f"{path}: schema upgraded from nothing to {SCHEMA_REVISION}\n", "")
    assert run("db", "upgrade") == (0, f"{path}: schema up to date at {SCHEMA_REVISION}\n", "")


def test_an_upgrade_begins_at_any_revision(run: Run, path: Path) -> None:
    from sqlalchemy import create_engine

    from ccr_asgi.usage.migrate import upgrade

    path.parent.mkdir()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection, "0001")
    engine.dispose()
    assert run("db", "upgrade") == (0, f"{path}: schema upgraded from 0001 to {SCHEMA_REVISION}\n", "")


def test_the_environment_names_the_database(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "CCR_ASGI_DATABASE_URL", f"sqlite:///{home}/other.db")
    assert run("db", "upgrade")[1].startswith(f"{home}/other.db: ")
    assert (home / "other.db").exists()


# Backup and vacuum


def test_a_backup_overwrites_nothing(run: Run, home: Path, path: Path) -> None:
    run("db", "upgrade")
    code, out, err = run("db", "backup", "copy.db")
    assert (code, err) == (0, "")
    assert out.startswith(f"{path}: 0.")
    refusal = "ccr-asgi: copy.db is there already, and a backup overwrites nothing; name another file\n"
    assert run("db", "backup", "copy.db") == (1, "", refusal)


def test_a_vacuum_says_what_is_free(run: Run, path: Path) -> None:
    run("db", "upgrade")
    code, out, err = run("db", "vacuum")
    assert (code, err) == (0, "")
    assert out.startswith(f"{path}: 0.")
    assert " MB freed, 0." in out


def test_a_vacuum_that_frees_nothing_says_so(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_page_longer = Vacuumed(100_000, 104_096, truncated=True)
    monkeypatch.setattr("ccr_asgi.usage.maintenance.vacuum", lambda database: a_page_longer)
    assert run("db", "vacuum") == (0, f"{path}: 0.0 MB freed, 0.1 MB left\n", "")


def test_a_vacuum_tells_of_a_reader(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccr_asgi.usage.maintenance.BUSY_TIMEOUT_MS", 30)
    run("db", "upgrade")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM requests").fetchone()
        code, _, err = run("db", "vacuum")
    assert code == 0
    assert "somebody is still reading an older state of it" in err


# Reprice


@pytest.fixture
def imported(run: Run, home: Path) -> None:
    priced(home, output_usd=2.0)
    lines = [LINE, LINE | {"provider": "anthropic", "model": "unheard-of"}, LINE | {"id": "a", "provider": None}]
    run("import", write(home / "usage.jsonl", *lines, LINE | {"timestamp": "2026-01-30T23:59:59Z"}))
    priced(home, output_usd=3.0)


TABLE = """\
provider   model         requests  changed  no price              billed          list value  saved
-          gpt-oss-120b         1        1         0    5.0000 -> 7.0000    5.0000 -> 7.0000      -
anthropic  unheard-of           1        0         1              0.0000                   -      -
cerebras   gpt-oss-120b         2        2         0  10.0000 -> 14.0000  10.0000 -> 14.0000      -
"""


def test_repricing_shows_and_then_stores(imported: None, run: Run, path: Path) -> None:
    sums = "SELECT SUM(billed_usd), (SELECT SUM(billed_micro_usd) FROM requests) FROM v_requests"
    tail = "new figures for 3 of 4 requests: not stored without --apply\n"
    assert run("db", "reprice") == (0, TABLE + tail, "")
    assert query(path, sums) == [(15.0, 15_000_000)]
    tail = "new figures for 3 of 4 requests: stored; the original ones are kept\n"
    assert run("db", "reprice", "--apply") == (0, TABLE + tail, "")
    assert query(path, sums) == [(21.0, 15_000_000)]
    assert run("db", "reprice")[1].endswith("new figures for 0 of 4 requests: not stored without --apply\n")


def test_repricing_can_be_read_by_programs(imported: None, run: Run) -> None:
    code, out, _ = run("db", "reprice", "--json", "--provider", "cerebras", "--model", "gpt-oss-120b")
    assert code == 0
    sums = {"saved_micro_usd": None, "unpriced": 0}
    assert json.loads(out) == {
        "applied": False,
        "changed": 2,
        "models": [
            {
                "provider": "cerebras",
                "model": "gpt-oss-120b",
                "requests": 2,
                "changed": 2,
                "old": {"billed_micro_usd": 10_000_000, "list_micro_usd": 10_000_000, **sums},
                "new": {"billed_micro_usd": 14_000_000, "list_micro_usd": 14_000_000, **sums},
            }
        ],
    }


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        (["--since", "2026-01-31"], 3),
        (["--until", "2026-01-31"], 1),
        (["--since", "2026-01-31T10:30:00+01:00", "--until", "2026-01-31T10:30:01+01:00"], 3),
        (["--since", "2027-01-01"], 0),
    ],
)
def test_repricing_of_a_time(flags: list[str], number: int, imported: None, run: Run) -> None:
    out = run("db", "reprice", *flags)[1]
    assert f" of {number} requests" in out
    assert out.startswith("provider") is (number > 0)


# What goes wrong


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "ccr-asgi: stopped\n"),
        (
            OperationalError("SELECT secret", {}, Exception("disk I/O error")),
            1,
            "ccr-asgi: the usage database failed: disk I/O error\n",
        ),
    ],
)
def test_a_verb_ends_in_a_message(
    raised: BaseException, code: int, said: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_database: object) -> None:
        raise raised

    monkeypatch.setattr("ccr_asgi.usage.maintenance.vacuum", fail)
    assert run("db", "vacuum") == (code, "", said)


@pytest.mark.parametrize("verb", [["import", "u"], ["db", "upgrade"], ["db", "backup", "b"], ["db", "vacuum"]])
def test_a_damaged_database_is_told_and_kept(verb: list[str], run: Run, home: Path, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this was never a database\n" * 100)
    write(home / "u", LINE)
    code, out, err = run(*verb)
    assert (code, out) == (1, "")
    assert str(path) in err
    assert "file is not a database" in err
    assert path.read_bytes() == b"this was never a database\n" * 100


@pytest.mark.parametrize("verb", [["import", "u"], ["db", "upgrade"], ["db", "vacuum"], ["db", "reprice"]])
def test_a_broken_configuration_is_told(verb: list[str], run: Run, home: Path) -> None:
    configure(home, prot=1)
    code, _, err = run(*verb)
    assert code == 2
    assert "prot: there is no such key" in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["db"], 2),
        (["db", "fly"], 2),
        (["import"], 2),
        (["db", "backup"], 2),
        (["db", "reprice", "--since", "yesterday"], 2),
        (["import", "--help"], 0),
        (["db", "--help"], 0),
        (["db", "upgrade", "--help"], 0),
        (["db", "backup", "--help"], 0),
        (["db", "vacuum", "--help"], 0),
        (["db", "reprice", "--help"], 0),
    ],
    ids=str,
)
def test_what_is_not_understood_is_a_usage_error(arguments: list[str], code: int, run: Run) -> None:
    with pytest.raises(SystemExit) as raised:
        run(*arguments)
    assert raised.value.code == code


def test_the_exit_code_is_explained(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("import", "--help")
    assert "1 if some were bad" in " ".join(capsys.readouterr().out.split())


# Weight


def test_the_command_starts_without_what_single_verbs_need() -> None:
    heavy = ("sqlalchemy", "alembic", "tqdm", "genai_prices", "httpx")
    code = f"import sys, ccr_asgi.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Terminal:
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def test_a_size_that_is_not_known_has_a_bar_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with cli_verbs.progress("reading", quiet=False) as advanced:
        advanced(10, 0)
        advanced(20, 40)
