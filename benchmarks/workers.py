"""What two workers carry more than one.

    python -m benchmarks.workers [--rounds 5] [--seconds 6] [--json FILE]

Requests on 32 connections, as fast as they are answered. The load and the simulated provider run on the same machine
and would take from the workers what two of them need, so all workers are held still (SIGSTOP) two thirds of the time,
all in the same moments: what is compared is what one does, and what two do, in the third that is left. One worker and
two are asked in turn.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import uvloop

from benchmarks.growth import Rows, table, warm_up
from benchmarks.load import Client, request
from benchmarks.processes import module
from benchmarks.proxies import EVENTS, WORKS, Candidate, ours

CONNECTIONS = 32
ON_S, OFF_S = 0.03, 0.06
"""A worker runs, and is held still."""


def _hold_still(pids: Sequence[int]) -> None:
    """Let `pids` run a third of the time, until this process is ended."""
    while True:
        for number, seconds in ((signal.SIGSTOP, OFF_S), (signal.SIGCONT, ON_S)):
            for pid in pids:
                os.kill(pid, number)
            time.sleep(seconds)


@contextmanager
def _held_still(pids: Sequence[int]) -> Iterator[None]:
    holding = multiprocessing.get_context("spawn").Process(target=_hold_still, args=(pids,))
    holding.start()
    try:
        yield
    finally:
        holding.terminate()
        holding.join()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def _answers(candidate: Candidate, work: str, seconds: float) -> int:
    """How many requests are answered in that time."""
    target = candidate.targets[work]
    payload, loop = request(target, f"burst-{EVENTS}"), asyncio.get_running_loop()
    count = 0

    async def ask(client: Client) -> None:
        nonlocal count
        while True:
            seen = await client.ask(payload)
            assert seen.status == 200, f"status {seen.status}: {seen.tail!r}"
            count += 1

    clients = [(await loop.create_connection(Client, "127.0.0.1", target.port))[1] for _ in range(CONNECTIONS)]
    asking = [asyncio.create_task(ask(client)) for client in clients]
    await asyncio.wait(asking, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task, client in zip(asking, clients, strict=True):
        task.cancel()
        client.transport.abort()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*asking)
    return count


def _turn(candidate: Candidate, work: str, seconds: float) -> None:
    server = candidate.server
    with _held_still(server.pids()):
        time.sleep(1)  # the one who holds them still has started
        before_ms, began_s = server.cpu_ms(), time.monotonic()
        count = uvloop.run(_answers(candidate, work, seconds))
        took_s, spent_ms = time.monotonic() - began_s, server.cpu_ms() - before_ms
    candidate.note(f"{work} rate", count / took_s)
    candidate.note(f"{work} CPU ms", spent_ms / count)


def measure(rounds: int, seconds: float) -> Rows:
    """Requests a second of one worker and of two, and what each costs."""
    with tempfile.TemporaryDirectory() as name, module("benchmarks.upstream") as upstream:
        folder = Path(name)
        with ours()(upstream, folder) as one, ours("--workers", "2")(upstream, folder) as two:
            warm_up(one)
            warm_up(two)
            for _ in range(rounds):
                for work in WORKS:
                    for candidate in (one, two):
                        _turn(candidate, work, seconds)
    rows: Rows = []
    for work in WORKS:
        rates = [statistics.median(candidate.figures[f"{work} rate"]) for candidate in (one, two)]
        costs = [statistics.median(candidate.figures[f"{work} CPU ms"]) for candidate in (one, two)]
        rows.append(
            {
                "work": work,
                "one: requests/s": rates[0],
                "two: requests/s": rates[1],
                "two / one": rates[1] / rates[0],
                "one: CPU ms": costs[0],
                "two: CPU ms": costs[1],
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = measure(given.rounds, given.seconds)
    print(table(rows))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
