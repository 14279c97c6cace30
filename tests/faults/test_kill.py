"""Servers that are killed: what they had written is whole, and what they had not is little."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.faults.conftest import SERVERS
from tests.faults.measures import Pauses
from tests.faults.test_database import assert_whole, config_of, each_server, post, stored
from tests.integration.claude import new_session, row_of, soon
from tests.support.fake_upstream import FakeUpstream
from tests.support.server import RunningServer, running_server

LOST_S = 2.0


class Load:
    """Clients that ask one request after the other until the server is gone; who was answered when."""

    def __init__(self, server: RunningServer, clients: int = 4) -> None:
        self.answered: list[tuple[str, float]] = []
        self._server = server
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                session = new_session()
                post(self._server, session)
                self.answered.append((session, monotonic()))

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.mark.fault("kill -9 under load")
@each_server
def test_a_kill_under_load_costs_the_last_rows_alone(
    fake_upstream: FakeUpstream, tmp_path: Path, name: str, seen: Callable[[str], None]
) -> None:
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, **SERVERS[name]) as server:
        pauses, load = Pauses(), Load(server)
        began_s = monotonic()
        assert soon(lambda: monotonic() - began_s > LOST_S + 1.0)
        killed_s = monotonic()
        server.kill()
        stood_still_s = pauses.stop()
        load.join()
    there = stored(server.database)
    assert len(there) == len(set(there))
    assert_whole(server.database)
    lost = [(session, at_s) for session, at_s in load.answered if session not in set(there)]
    oldest_s = max((killed_s - at_s for _, at_s in lost), default=0.0)
    seen(f"{len(load.answered)} answered, {len(lost)} rows lost, the oldest {oldest_s:.2f} s old")
    assert len(load.answered) > 20
    assert oldest_s - stood_still_s <= LOST_S


@pytest.mark.fault("kill in mid-write")
def test_kills_in_the_middle_of_a_commit(
    fake_upstream: FakeUpstream, tmp_path: Path, seen: Callable[[str], None]
) -> None:
    """Killed at the moment when the WAL grows, several times over; each start goes on with the same file."""
    kept = 0
    for _ in range(4):
        with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server:
            session = new_session()
            post(server, session)
            row_of(server.database, session)  # it takes rows after the last kill
            wal = server.database.with_name("usage.db-wal")
            load = Load(server, clients=2)
            before = wal.stat().st_size
            deadline_s = monotonic() + 10
            while wal.stat().st_size == before and monotonic() < deadline_s:
                pass
            server.kill()
            load.join()
        assert_whole(server.database)
        assert session in stored(server.database)
        assert len(stored(server.database)) >= kept
        kept = len(stored(server.database))
    seen(f"4 kills, {kept} rows, the file is whole")
