"""Whether one client's large requests hold up another's stream.

    python -m benchmarks.stalls [--seconds 10] [--size-kb 2000] [--json FILE]

One stream of an event every 5 ms passes through, and it is measured how late each event comes: first with nobody else
there, then while another client sends requests of 2 MB one after the other, for each kind of work.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

import uvloop

from benchmarks.growth import Rows, table, warm_up
from benchmarks.load import Client, request, streams
from benchmarks.processes import module
from benchmarks.proxies import WORKS, Candidate, bare, ours

PACE_MS = 5
PAUSE_S = 0.2
"""Between two large requests: a stall that it makes must not be taken for that of the one before."""


async def _measured(candidate: Candidate, work: str | None, seconds: float, size_kb: float) -> dict[str, float | str]:
    """The stream's delays while `work` is asked for; None is nobody."""
    listening = candidate.targets["passthrough"]
    paced = request(listening, f"paced-{int(seconds * 1000 / PACE_MS)}", 20)
    streaming = asyncio.create_task(streams(listening, paced, 1))
    asked = 0
    if work is not None:
        target = candidate.targets[work]
        large = request(target, "burst-1", size_kb)
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", target.port)
        while not streaming.done():
            await client.ask(large)
            asked += 1
            await asyncio.sleep(PAUSE_S)
        client.transport.close()
    (seen,) = await streaming
    late_ms = sorted(seen.delays_ms)
    return {
        "beside it": work or "nobody",
        "large requests": asked,
        "event p50 ms": late_ms[len(late_ms) // 2],
        "p99 ms": late_ms[len(late_ms) * 99 // 100],
        "most ms": late_ms[-1],
        "over 10 ms": sum(late > 10 for late in late_ms),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size-kb", type=float, default=2_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as name, module("benchmarks.upstream") as upstream:
        for candidate_name, start in {"floor": bare("floor"), "ccr_asgi": ours()}.items():
            with start(upstream, Path(name)) as candidate:
                warm_up(candidate)
                found[candidate_name] = [
                    uvloop.run(_measured(candidate, work, given.seconds, given.size_kb)) for work in (None, *WORKS)
                ]
    for candidate_name, rows in found.items():
        print(f"{candidate_name}\n\n{table(rows)}")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
