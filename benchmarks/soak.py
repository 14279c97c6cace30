"""Half an hour of mixed load: whether memory, descriptors and times stay as they are.

    python -m benchmarks.soak [--minutes 30] [--json FILE]

At all times there are 12 clients: passed-through and converted streams, fast and slow ones, small and large bodies, and
one that leaves in the middle of every answer. The run is cut in five. It fails if, in the last fifth, the 99th
percentile of the times to the first byte is over 1.2 times that of the first, memory has grown by more than a tenth
since the second, or descriptors have; or if the database does not hold a row for every request.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.growth import Rows, table, warm_up
from benchmarks.load import Client, Target, request
from benchmarks.processes import Measured, module
from benchmarks.proxies import Candidate, ours

FIFTHS = 5
CLIENTS = 12
SAMPLE_S = 2.0


@dataclass(slots=True)
class Fifth:
    """What was seen in a fifth of the run."""

    first_bytes_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


class Soak:
    """One run."""

    def __init__(self, candidate: Candidate, length_s: float) -> None:
        self._candidate, self._length_s = candidate, length_s
        self._payloads = [
            (work, request(target, what, size_kb))
            for work, target in candidate.targets.items()
            for what, size_kb in (("burst-300", 195), ("burst-3000", 40), ("paced-100", 40), ("burst-30", 1_500))
        ]
        self.fifths = [Fifth() for _ in range(FIFTHS)]
        self.requests = 0

    async def run(self) -> None:
        """All clients and the one who watches, until the time is over."""
        self._began_s = time.monotonic()
        await asyncio.gather(self._watch(self._candidate.server), self._leave(), *map(self._ask, range(CLIENTS - 1)))

    async def _ask(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 -- a choice of loads, the same in each run
        while self._now() is not None:
            work, payload = chance.choice(self._payloads)
            client = await self._connect(self._candidate.targets[work])
            for _ in range(chance.randrange(1, 6)):
                self.requests += 1
                seen = await client.ask(payload)
                assert seen.status == 200, seen
                if (fifth := self._now()) is not None:
                    fifth.first_bytes_ms.append(seen.first_byte_ms)
            client.transport.close()

    async def _leave(self) -> None:
        """Be the client that goes away in the middle."""
        targets = itertools.cycle(self._candidate.targets.values())
        while self._now() is not None:
            target = next(targets)
            client = await self._connect(target)
            self.requests += 1
            asked = asyncio.create_task(client.ask(request(target, "paced-1000", 40)))
            await client.answering.wait()
            client.transport.abort()
            with contextlib.suppress(ConnectionError):
                await asked

    async def _connect(self, target: Target) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", target.port)
        return client

    async def _watch(self, server: Measured) -> None:
        while (fifth := self._now()) is not None:
            fifth.memory_mb.append(server.rss_mb())
            fifth.descriptors.append(server.descriptors())
            await asyncio.sleep(SAMPLE_S)

    def _now(self) -> Fifth | None:
        """The fifth of the run that it is; None after its end."""
        place = int((time.monotonic() - self._began_s) / self._length_s * FIFTHS)
        return self.fifths[place] if place < FIFTHS else None


def rows(fifths: list[Fifth]) -> Rows:
    """A row for each fifth."""
    return [
        {
            "fifth": number,
            "answers": len(fifth.first_bytes_ms),
            "first byte p50 ms": _percentile(fifth.first_bytes_ms, 50),
            "first byte p99 ms": _percentile(fifth.first_bytes_ms, 99),
            "RSS MB, most": max(fifth.memory_mb),
            "descriptors, most": max(fifth.descriptors),
        }
        for number, fifth in enumerate(fifths, start=1)
    ]


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


def faults(found: Rows, requests: int, stored: int) -> list[str]:
    """What is not as it should be."""
    first, second, last = found[0], found[1], found[-1]
    limits = {
        "first byte p99 ms": 1.2 * float(first["first byte p99 ms"]),
        "RSS MB, most": 1.1 * float(second["RSS MB, most"]),
        "descriptors, most": 1.1 * float(second["descriptors, most"]),
    }
    told = [
        f"{name}: {last[name]:.4g}, over {limit:.4g}" for name, limit in limits.items() if float(last[name]) > limit
    ]
    return told + ([] if stored == requests else [f"rows: {stored} of {requests} requests"])


def _stored(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        count: int = connection.execute("SELECT COUNT(*) FROM requests").fetchone()[0]
        return count


def main() -> None:
    """Run, print, and fail if something has grown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, module("benchmarks.upstream") as upstream:
        with ours()(upstream, Path(name)) as candidate:
            before = warm_up(candidate)
            (database,) = Path(name).glob("usage-*.db")
            soak = Soak(candidate, given.minutes * 60)
            uvloop.run(soak.run())
        found = rows(soak.fifths)  # the server has ended, and has written its last rows
        told = faults(found, soak.requests, _stored(database) - before)
    print(table(found))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1))
    raise SystemExit("; ".join(told) or 0)


if __name__ == "__main__":
    main()
