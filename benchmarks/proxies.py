"""What a request costs through us, against the references: the upstream itself, nginx, bare Python, LiteLLM.

    python -m benchmarks.proxies [--rounds 5] [--quick] [--json FILE] [--litellm FOLDER] [--only NAME ...]

All servers run at once, on this machine and idle but for the one that is asked; they are asked in turn, so that a slow
moment of the machine meets all. One request is a body of 195 KB and a stream of 300 events: `burst`, all in one write,
or `paced`, one every 5 ms. The figures are medians of the rounds, with their least and greatest; the ratios are those
of the medians. nginx is measured where it is installed, LiteLLM where a folder is named for an environment of its own.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.load import Target, request, streams
from benchmarks.processes import Measured, environment_with, free_port, module, running

WORKS = ("passthrough", "chat", "responses")
EVENTS = 300


@dataclass(slots=True)
class Load:
    """A load: what each request asks of the upstream, how many connections there are, and requests on each."""

    what: str
    at_once: int
    each: int


LOADS = {"burst": Load(f"burst-{EVENTS}", 4, 25), "paced": Load(f"paced-{EVENTS}", 16, 1)}
THROUGHPUT = Load(f"burst-{EVENTS}", 32, 6)
ONE = Load(f"burst-{EVENTS}", 1, 20)


@dataclass(slots=True)
class Candidate:
    """A server that is measured; `targets` are the kinds of work it can do."""

    server: Measured
    targets: dict[str, Target]
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """One more value of a figure."""
        self.figures.setdefault(name, []).append(value)


# The candidates


@contextlib.contextmanager
def direct(upstream: Measured, folder: Path) -> Iterator[Candidate]:
    """The upstream itself."""
    yield Candidate(upstream, {"passthrough": Target(upstream.port)})


@contextlib.contextmanager
def nginx(upstream: Measured, folder: Path) -> Iterator[Candidate]:
    """The limit in practice for passing through."""
    port = free_port()
    config = folder / "nginx.conf"
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"""worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr;
        events {{ worker_connections 4096; }}
        http {{
          access_log off; {temporary}
          upstream provider {{ server 127.0.0.1:{upstream.port}; keepalive 64; }}
          server {{
            listen 127.0.0.1:{port}; client_max_body_size 64m; client_body_buffer_size 4m;
            location / {{
              proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
              proxy_buffering off;
            }}
          }}
        }}"""
    )
    with running([_nginx() or "nginx", "-c", str(config), "-p", str(folder)], port, folder / "nginx.log") as server:
        yield Candidate(server, {"passthrough": Target(port)})


def bare(what: str) -> Callable[[Measured, Path], contextlib.AbstractContextManager[Candidate]]:
    """The least that could do our work, in Python."""

    @contextlib.contextmanager
    def start(upstream: Measured, folder: Path) -> Iterator[Candidate]:
        with module("benchmarks.bare", what, f"http://127.0.0.1:{upstream.port}") as server:
            paths = {"passthrough": "/v1/messages", "chat": "/chat", "responses": "/responses"}
            yield Candidate(server, {work: Target(server.port, path) for work, path in paths.items()})

    return start


def ours(*options: str) -> Callable[[Measured, Path], contextlib.AbstractContextManager[Candidate]]:
    """The whole app as people start it, everything on."""

    @contextlib.contextmanager
    def start(upstream: Measured, folder: Path) -> Iterator[Candidate]:
        port, origin = free_port(), f"http://127.0.0.1:{upstream.port}"
        config = folder / f"ccr-asgi-{port}.json"
        config.write_text(json.dumps(our_config(port, origin, folder / f"usage-{port}.db")))
        command = [str(Path(sys.executable).with_name("ccr-asgi")), "serve", *options]
        environment = {"CCR_ASGI_CONFIG": str(config), "HOME": str(folder)}
        with running(command, port, folder / f"ccr-asgi-{port}.log", environment) as server:
            yield Candidate(server, {work: replace(target, port=port) for work, target in OUR_TARGETS.items()})

    return start


OUR_TARGETS = {
    "passthrough": Target(0, headers={"authorization": "Bearer invented"}),
    "chat": Target(0, prefix="chat,"),
    "responses": Target(0, prefix="responses,"),
}


def our_config(port: int, origin: str, database: Path) -> dict[str, Any]:
    """A configuration whose providers are all the same upstream."""
    return {
        "port": port,
        "providers": {
            "anthropic": {"baseUrl": origin},
            "chat": {"type": "openai-chat", "baseUrl": f"{origin}/v1/chat/completions", "apiKey": "invented"},
            "responses": {"type": "openai-responses", "baseUrl": f"{origin}/v1/responses", "apiKey": "invented"},
        },
        "usage": {"database": str(database)},
    }


def litellm(programs: Path) -> Callable[[Measured, Path], contextlib.AbstractContextManager[Candidate]]:
    """LiteLLM's proxy, on its Messages endpoint."""

    @contextlib.contextmanager
    def start(upstream: Measured, folder: Path) -> Iterator[Candidate]:
        port, origin = free_port(), f"http://127.0.0.1:{upstream.port}"
        names = [f"{pace}-{EVENTS}" for pace in ("burst", "paced")]
        backends = {"": ("anthropic", origin), "chat,": ("hosted_vllm", f"{origin}/v1")}
        models = [
            {
                "model_name": f"{prefix}{name}",
                "litellm_params": {"model": f"{backend}/{name}", "api_base": base, "api_key": "invented"},
            }
            for prefix, (backend, base) in backends.items()
            for name in names
        ]
        config = folder / "litellm.yaml"  # JSON is YAML
        config.write_text(
            json.dumps({"model_list": models, "litellm_settings": {"num_retries": 0, "telemetry": False}})
        )
        command = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            "HOME": str(folder),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # else it does not start
        }
        with running(command, port, folder / "litellm.log", environment) as server:
            targets = {"passthrough": Target(port), "chat": Target(port, prefix="chat,")}
            yield Candidate(server, targets)

    return start


def _nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


# The measuring


async def cost(candidate: Candidate, work: str, load: Load) -> float:
    """CPU milliseconds of the server per request."""
    target = candidate.targets[work]
    before_ms = candidate.server.cpu_ms()
    await streams(target, request(target, load.what), load.at_once, load.each)
    return (candidate.server.cpu_ms() - before_ms) / (load.at_once * load.each)


async def turn(candidate: Candidate, *, thorough: bool) -> None:
    """Measure everything once."""
    for work, target in candidate.targets.items():
        for name, load in LOADS.items():
            candidate.note(f"{work} {name} CPU ms", await cost(candidate, work, load))
        alone = await streams(target, request(target, ONE.what), ONE.at_once, ONE.each)
        candidate.note(f"{work} first byte ms", statistics.median(seen.first_byte_ms for seen in alone))
        paced = await streams(target, request(target, f"paced-{EVENTS}"), 1)
        delays_ms = sorted(delay for seen in paced for delay in seen.delays_ms)
        candidate.note(f"{work} event p50 ms", delays_ms[len(delays_ms) // 2])
        candidate.note(f"{work} event p99 ms", delays_ms[len(delays_ms) * 99 // 100])
        if thorough:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            await streams(target, request(target, THROUGHPUT.what), THROUGHPUT.at_once, THROUGHPUT.each)
            took_s = loop.time() - began_s
            candidate.note(f"{work} requests/s", THROUGHPUT.at_once * THROUGHPUT.each / took_s)
    candidate.note("RSS MB", candidate.server.rss_mb())


def measure(candidates: dict[str, Candidate], rounds: int) -> None:
    """Ask all candidates in turn, `rounds` times, after a round that is not counted."""
    for candidate in candidates.values():
        candidate.note("start s", candidate.server.start_s)
        candidate.note("RSS idle MB", candidate.server.rss_mb())
    for number in range(rounds + 1):
        for candidate in candidates.values():
            kept = {name: list(values) for name, values in candidate.figures.items()}
            uvloop.run(turn(candidate, thorough=True))
            if number == 0:
                candidate.figures = kept
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)


def table(candidates: dict[str, Candidate], reference: str) -> str:
    """Medians with their spread, and the ratio to the reference, as Markdown."""
    names = list(dict.fromkeys(name for candidate in candidates.values() for name in candidate.figures))
    lines = ["| " + " | ".join(["", *candidates]) + " |", "|---" * (len(candidates) + 1) + "|"]
    for name in names:
        cells = [
            _cell(candidate.figures.get(name), candidates[reference].figures.get(name))
            for candidate in candidates.values()
        ]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def _cell(values: list[float] | None, reference: list[float] | None) -> str:
    if not values:
        return "-"
    median = statistics.median(values)
    spread = f" ({min(values):.3g}-{max(values):.3g})" if len(values) > 1 else ""
    ratio = f", {median / statistics.median(reference):.2f} x" if reference else ""
    return f"{median:.3g}{spread}{ratio}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds of the app and the cheap references")
    parser.add_argument("--json", type=Path, help="also write all values there")
    parser.add_argument("--litellm", type=Path, help="a folder for LiteLLM, which is installed there if need be")
    parser.add_argument("--only", nargs="+", help="these candidates, and the reference")
    given = parser.parse_args()
    kinds = _kinds(None if given.quick else given.litellm, thorough=not given.quick)
    chosen = {name: start for name, start in kinds.items() if not given.only or name in (*given.only, "floor")}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        upstream = stack.enter_context(module("benchmarks.upstream"))
        candidates = _started(chosen, upstream, Path(folder), stack)
        measure(candidates, 2 if given.quick else given.rounds)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; ratios to the floor\n")
    print(table(candidates, "floor"))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({name: candidate.figures for name, candidate in candidates.items()}, indent=1))


def _started(
    chosen: dict[str, Any], upstream: Measured, folder: Path, stack: contextlib.ExitStack
) -> dict[str, Candidate]:
    """The candidates, running; a reference of other people's that does not start is left out, which is said."""
    candidates = {}
    for name, start in chosen.items():
        try:
            candidates[name] = stack.enter_context(start(upstream, folder))
        except RuntimeError as error:
            if name not in ("nginx", "LiteLLM"):
                raise
            print(f"{name} does not start, so it is not measured: {error}", file=sys.stderr)
    return candidates


def _kinds(litellm_folder: Path | None, *, thorough: bool) -> dict[str, Any]:
    """What is measured, by name, as far as it can be had here."""
    kinds: dict[str, Any] = {"floor": bare("floor"), "direct": direct}
    if _nginx():
        kinds["nginx"] = nginx
    else:
        print("nginx is not installed (Debian: nginx), so it is not measured", file=sys.stderr)
    kinds["ccr_asgi"] = ours()
    if thorough:
        kinds |= {"prototype": bare("prototype"), "on h11": ours("--http", "h11")}
        kinds["on granian"] = ours("--server", "granian")
    if litellm_folder is not None and (programs := environment_with("litellm[proxy]", litellm_folder)) is not None:
        kinds["LiteLLM"] = litellm(programs)
    return kinds


if __name__ == "__main__":
    main()
