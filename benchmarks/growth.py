"""Whether cost grows in a straight line: with the length of an answer, the size of a request, and open streams.

    python -m benchmarks.growth [--json FILE] [--quick]

CPU is that of the server process. A straight line shows as the same figure in each row of a table.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.load import Client, Target, request, streams
from benchmarks.processes import Measured, module
from benchmarks.proxies import WORKS, Candidate, ours

Rows = list[dict[str, float | str]]

EVENTS = {300: 100, 3_000: 20, 30_000: 5}
"""Events of an answer, and how many such answers are measured at once."""
BODY_KB = {100: 400, 1_000: 60, 10_000: 10}
SMALL_KB = 30
FIRST_ROW_S = 3.0
OPEN_STREAMS = (10, 100, 1_000)
ROUNDS = 3


async def _cpu_ms(server: Measured, target: Target, payload: bytes, count: int) -> float:
    """CPU milliseconds of one of `count` requests that follow each other."""
    before_ms = server.cpu_ms()
    await streams(target, payload, 1, count)
    return (server.cpu_ms() - before_ms) / count


def per_event(candidate: Candidate, rounds: int) -> Rows:
    """CPU of one event more, in microseconds: what a request costs beyond one with a single event."""
    rows: Rows = []
    for work in WORKS:
        target = candidate.targets[work]
        for events, count in EVENTS.items():
            found = []
            for _ in range(rounds):
                empty = uvloop.run(_cpu_ms(candidate.server, target, request(target, "burst-1", 20), count))
                whole = uvloop.run(_cpu_ms(candidate.server, target, request(target, f"burst-{events}", 20), count))
                found.append((whole - empty) * 1000 / events)
            rows.append({"work": work, "events": events, "CPU us per event": statistics.median(found)})
    return rows


def per_kb(candidate: Candidate, rounds: int) -> Rows:
    """CPU of a kilobyte of request, in microseconds: what a request costs beyond a small one."""
    rows: Rows = []
    for work in WORKS:
        target = candidate.targets[work]
        for size_kb, count in BODY_KB.items():
            found = []
            for _ in range(rounds):
                small = uvloop.run(_cpu_ms(candidate.server, target, request(target, "burst-1", SMALL_KB), count))
                large = uvloop.run(_cpu_ms(candidate.server, target, request(target, "burst-1", size_kb), count))
                found.append((large - small) * 1000 / (size_kb - SMALL_KB))
            rows.append({"work": work, "request kB": size_kb, "CPU us per kB": statistics.median(found)})
    return rows


async def _open(candidate: Candidate, work: str, count: int) -> dict[str, float | str]:
    """Hold `count` streams open that have begun and are silent, and see what the server holds for them."""
    target, server, loop = candidate.targets[work], candidate.server, asyncio.get_running_loop()
    payload = request(target, "quiet-20", 20)
    before_mb, clients = server.rss_mb(), []
    asked = []
    for _ in range(count):
        _, client = await loop.create_connection(Client, "127.0.0.1", target.port)
        clients.append(client)
        asked.append(asyncio.create_task(client.ask(payload)))
    await asyncio.gather(*(client.answering.wait() for client in clients))
    held_mb = server.rss_mb() - before_mb
    descriptors = server.descriptors()
    for task, client in zip(asked, clients, strict=True):
        task.cancel()
        client.transport.abort()
    await asyncio.gather(*asked, return_exceptions=True)
    return {"work": work, "open streams": count, "kB each": held_mb * 1000 / count, "descriptors": descriptors}


def per_stream(upstream: Measured, folder: Path, counts: tuple[int, ...]) -> Rows:
    """Memory of an open stream, in a server that has held none before."""
    rows: Rows = []
    for work in WORKS:
        for count in counts:
            with ours()(upstream, folder) as candidate:
                warm_up(candidate)
                rows.append(uvloop.run(_open(candidate, work, count)))
    return rows


def warm_up(candidate: Candidate) -> int:
    """Load what is loaded on first use, the prices with the first row; return how many requests it took."""
    payloads = [(target, request(target, "burst-300")) for target in candidate.targets.values()]
    count = sum(len(uvloop.run(streams(target, payload, 1, 5))) for target, payload in payloads)
    time.sleep(FIRST_ROW_S)
    return count


def table(rows: Rows) -> str:
    """Rows as Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        cells = (f"{value:.4g}" if isinstance(value, float) else f"{value}" for value in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one round, at most 100 streams")
    given = parser.parse_args()
    rounds, counts = (1, OPEN_STREAMS[:2]) if given.quick else (ROUNDS, OPEN_STREAMS)
    with tempfile.TemporaryDirectory() as name, module("benchmarks.upstream") as upstream:
        folder = Path(name)
        with ours()(upstream, folder) as candidate:
            warm_up(candidate)
            found = {"events": per_event(candidate, rounds), "size": per_kb(candidate, rounds)}
        found["streams"] = per_stream(upstream, folder, counts)
    for rows in found.values():
        print(table(rows))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
