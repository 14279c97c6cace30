"""Many at once, and many one after the other: every token is counted, and nothing is left behind."""

import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.faults.conftest import SERVERS
from tests.faults.measures import descriptors, processes, resident_bytes
from tests.integration.claude import (
    CHAT_MODEL,
    TARGET,
    World,
    body,
    headers,
    new_session,
    providers,
    soon,
    tagged,
)
from tests.support.fake_upstream import FakeUpstream, Gate, anthropic_sse, chat_sse
from tests.support.raw_http import RawClient, fetch
from tests.support.server import read_rows, running_server

MB = 1024 * 1024
STREAMS = 200
ALL_ROWS = "select session_id, outcome, provider, input_tokens, cache_read_tokens, output_tokens from v_requests"


@pytest.fixture(params=SERVERS)
def counted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A process of its own that tells its tasks, warm: what is made once is not measured."""
    with FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        config = {"providers": providers(anthropic, chat, third)}
        target = "tests.faults.counted:app"
        with running_server(config, tmp_path=tmp_path, target=target, **SERVERS[request.param]) as server:
            world = World(server.url, server.database, anthropic, chat, third, server)
            warm_up(world)
            yield world


def warm_up(world: World, count: int = 30) -> None:
    sessions = [new_session() for _ in range(count)]
    with ExitStack() as clients:
        begun = [clients.enter_context(RawClient(world.url)) for _ in sessions]
        for number, (client, session) in enumerate(zip(begun, sessions, strict=True)):
            client.send_request("POST", TARGET, headers(session), tagged() if number % 2 else body())
        assert {client.read_response("POST").status for client in begun} == {200}
    for session in sessions:
        world.row(session)
    world.forget()


def tasks(world: World) -> int:
    return int(fetch(f"{world.url}/tasks").body)


def wait_for_rows(world: World, sessions: list[str], timeout: float = 5.0) -> dict[str, dict[str, object]]:
    """The row of each of these sessions, exactly one each, within `timeout` seconds."""
    found: dict[str, dict[str, object]] = {}

    def all_there() -> bool:
        wanted = set(sessions)
        rows = [row for row in read_rows(world.database, ALL_ROWS) if row["session_id"] in wanted]
        found.update({row["session_id"]: row for row in rows})
        assert len(rows) == len({row["session_id"] for row in rows}), "a request has two rows"
        return len(found) == len(wanted)

    assert soon(all_there, timeout), f"{len(found)} of {len(sessions)} rows came"
    return found


@pytest.mark.fault("200 streams")
def test_200_streams_at_once_are_counted_to_the_token(world: World, seen: Callable[[str], None]) -> None:
    gate = Gate()
    for number in range(STREAMS // 2):
        usage = {"input_tokens": number, "cache_read_input_tokens": 2 * number, "output_tokens": 3 * number + 1}
        world.anthropic.script(anthropic_sse(usage=usage).inserting(2, gate))
        chat_usage = {"prompt_tokens": 1000 + number, "completion_tokens": 5 * number + 1}
        world.chat.script(chat_sse(usage=chat_usage).inserting(1, gate))
    sessions = [new_session() for _ in range(STREAMS)]
    with ExitStack() as clients:
        begun = [clients.enter_context(RawClient(world.url)) for _ in sessions]
        for number, (client, session) in enumerate(zip(begun, sessions, strict=True)):
            client.send_request("POST", TARGET, headers(session), tagged() if number % 2 else body())
        world.anthropic.wait_for_requests(STREAMS // 2)
        world.chat.wait_for_requests(STREAMS // 2)
        gate.open()
        answers = [client.read_response("POST") for client in begun]
        ended_s = monotonic()
    assert all(answer.body.endswith(b'"message_stop"}\n\n') for answer in answers)
    rows = list(wait_for_rows(world, sessions).values())
    seen(f"{STREAMS} rows after {monotonic() - ended_s:.1f} s")
    half = range(STREAMS // 2)
    passed = [row for row in rows if row["provider"] == "anthropic"]
    converted = [row for row in rows if row["provider"] == "cerebras"]
    assert {row["outcome"] for row in rows} == {"ok"}
    assert sorted(_count(row, "input") for row in passed) == list(half)
    assert sorted(_count(row, "cache_read") for row in passed) == [2 * number for number in half]
    assert sorted(_count(row, "output") for row in passed) == [3 * number + 1 for number in half]
    assert sorted(_count(row, "input") for row in converted) == [1000 + number for number in half]
    assert sorted(_count(row, "output") for row in converted) == [5 * number + 1 for number in half]


def _count(row: dict[str, object], name: str) -> int:
    count = row[f"{name}_tokens"]
    assert isinstance(count, int)
    return count


def leave_half(world: World) -> list[str]:
    """200 streams, every other client of which leaves in the middle; the sessions."""
    gate = Gate()
    world.anthropic.on("/v1/messages", anthropic_sse().inserting(3, gate))
    world.chat.on("/completions", chat_sse("Hello there.").inserting(2, gate))
    sessions = [new_session() for _ in range(STREAMS)]
    with ExitStack() as clients:
        begun = [clients.enter_context(RawClient(world.url)) for _ in sessions]
        for number, (client, session) in enumerate(zip(begun, sessions, strict=True)):
            client.send_request("POST", TARGET, headers(session), tagged() if number % 4 >= 2 else body())
        for client in begun:
            assert client.read_head().status == 200
        for number, client in enumerate(begun):
            if number % 2:
                (client.reset if number % 3 else client.close)()
        assert soon(lambda: _gone(world) == STREAMS // 2, 5), "some upstream requests outlive their clients"
        gate.open()
        for client in begun[::2]:
            client.read_until(b'"message_stop"}\n\n')
    world.forget()
    return sessions


def _gone(world: World) -> int:
    """How many requests have lost their peer, as the providers see it."""
    return sum(request.disconnected.is_set() for request in [*world.anthropic.requests, *world.chat.requests])


@pytest.mark.fault("half of 200 leaving")
def test_when_half_of_200_leave_nothing_is_left_behind(counted: World, seen: Callable[[str], None]) -> None:
    leave_half(counted)  # the largest that it ever was is not what is measured
    idle(counted)
    before = tasks(counted), descriptors(counted), resident_bytes(counted)
    sessions = [session for _ in range(3) for session in leave_half(counted)]
    rows = wait_for_rows(counted, sessions)
    outcomes = [rows[session]["outcome"] for session in sessions]
    assert outcomes.count("cancelled") == outcomes.count("ok") == len(sessions) // 2
    idle(counted)
    after = tasks(counted), descriptors(counted), resident_bytes(counted)
    grown_mb = (after[2] - before[2]) / MB
    seen(
        f"3 times {STREAMS}: tasks {before[0]}->{after[0]}, descriptors {before[1]}->{after[1]}, "
        f"memory {grown_mb:+.1f} MB, {len(rows)} rows"
    )
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 4
    assert grown_mb < 12


def idle(world: World) -> None:
    """Wait until all that is said to end by itself has ended: kept connections to upstreams after 5 s."""
    assert soon(lambda: world.anthropic.open_connections + world.chat.open_connections == 0, 10)


@pytest.mark.fault("300 requests")
def test_300_requests_do_not_make_it_grow(counted: World, seen: Callable[[str], None]) -> None:
    def hundred() -> None:
        with RawClient(counted.url) as client:
            for number in range(100):
                stream = number % 4 < 2
                content = tagged(stream=stream) if number % 2 else body(stream=stream)
                if number % 10 == 9:
                    content = body(model="nobody,x")
                client.request("POST", TARGET, headers(new_session()), content)
        counted.forget()

    hundred()
    before = resident_bytes(counted)
    for _ in range(3):
        hundred()
    grown_mb = (resident_bytes(counted) - before) / MB
    seen(f"{grown_mb:+.1f} MB")
    assert grown_mb < 12


@pytest.mark.fault("no descriptors left")
def test_a_server_without_descriptors_comes_back(counted: World, seen: Callable[[str], None]) -> None:
    """Those who hold connections already are answered, others wait or are refused, and later all is well."""
    assert counted.server is not None
    hard: dict[int, tuple[int, int]] = {}
    with ExitStack() as clients:
        early = clients.enter_context(RawClient(counted.url))
        assert early.request("POST", TARGET, headers(new_session()), body()).status == 200
        for process_id in processes(counted.server):
            hard[process_id] = resource.prlimit(process_id, resource.RLIMIT_NOFILE)
            used = len(list(Path(f"/proc/{process_id}/fd").iterdir()))
            resource.prlimit(process_id, resource.RLIMIT_NOFILE, (used + 8, hard[process_id][1]))
        crowd = []
        for _ in range(40):
            with suppress(OSError):
                client = clients.enter_context(RawClient(counted.url))
                client.send_request("POST", TARGET, headers(new_session()), body())
                crowd.append(client)
        told = [_status_soon(client) for client in crowd]
        statuses = {status: told.count(status) for status in set(told)}
    assert set(statuses) <= {0, 200, 502, 500, 503}, statuses
    for process_id, limits in hard.items():
        resource.prlimit(process_id, resource.RLIMIT_NOFILE, limits)
    session = new_session()

    def is_served() -> bool:
        try:
            with RawClient(counted.url) as client:
                return client.request("POST", TARGET, headers(session), body()).status == 200
        except OSError:
            return False

    assert soon(is_served, 10)
    counted.row(session)
    size = len(counted.server.log())
    seen(f"of 40: {statuses} (0: no answer), log of {size // 1024} KB")
    assert size < MB
    assert CHAT_MODEL in counted.server.log()


def _status_soon(client: RawClient) -> int:
    client._socket.settimeout(0.2)
    try:
        return client.read_response("POST").status
    except (OSError, EOFError):
        return 0
