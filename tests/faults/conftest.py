"""The servers of the fault matrix, and the table that is printed at its end."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from tests.faults.matrix import FAULTS, Table, fault_of
from tests.integration.claude import World, world_in_a_process

SERVERS: dict[str, dict[str, Any]] = {
    "httptools": {"server": "uvicorn", "http": "httptools"},
    "h11": {"server": "uvicorn", "http": "h11"},
    "granian": {"server": "granian"},
}


class Started(Protocol):
    """Gives the world under a server of this name and with this configuration; the first call starts it."""

    def __call__(self, name: str, config: Mapping[str, Any] | None = None) -> World: ...


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Worlds that live as long as the test run, whose providers have not been asked anything yet."""
    running: dict[str, World] = {}
    with ExitStack() as stack:

        def world_of(name: str, config: Mapping[str, Any] | None = None) -> World:
            key = f"{name} {json.dumps(config)}"
            if key not in running:
                world = world_in_a_process(tmp_path_factory.mktemp(name), config=config, **SERVERS[name])
                running[key] = stack.enter_context(world)
            running[key].forget()
            return running[key]

        yield world_of


@pytest.fixture(params=SERVERS)
def world(request: pytest.FixtureRequest, started: Started) -> World:
    """The product under each server, whose providers have not been asked anything yet."""
    return started(request.param)


WHOLE = "faults_table"
IMPATIENT = {"timeouts": {"idleS": 2.5, "connectS": 2.5}}


@pytest.fixture(params=SERVERS)
def impatient_world(request: pytest.FixtureRequest, started: Started) -> World:
    """The same with seconds instead of minutes for silence."""
    return started(request.param, IMPATIENT)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says what was seen, for the table."""
    return lambda note: request.node.user_properties.append(("seen", note))


# The table


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("fault")
        if marker is not None:
            item.add_marker("faults")  # a test of another folder is not: it runs with its own kind, too
        name = marker.args[0] if marker is not None else fault_of(item.nodeid)
        if name is None:
            continue
        assert name in FAULTS, f"{item.nodeid} is of an unknown fault: {name}"
        server = next((server for server in SERVERS if server in item.nodeid.partition("[")[2]), "")
        item.user_properties += [("fault", name), ("server", server)]


def _table(reporter: pytest.TerminalReporter) -> Table:
    table = Table()
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in reporter.stats.get(outcome, []):
            told = dict(getattr(report, "user_properties", ()))
            if "fault" in told:
                notes = [note for key, note in report.user_properties if key == "seen"]
                table.add(told["fault"], told["server"], "failed" if outcome == "error" else outcome, notes)
    return table


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A matrix with a fault that nothing showed has failed."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput") or not session.config.getoption(WHOLE, default=False):
        return
    if session.exitstatus == 0 and _table(reporter).incomplete:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not terminalreporter.config.getoption(WHOLE, default=False):
        return
    table = _table(terminalreporter)
    terminalreporter.section("faults")
    for line in table.lines():
        terminalreporter.write_line(line)
    if table.incomplete:
        terminalreporter.write_line(f"not shown: {', '.join(table.incomplete)}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", action="store_true", help="print the table of faults, expected and seen")
