"""What is wrong with a set-up, and how to mend it: every check that `ccr-asgi doctor` makes."""

import asyncio
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import httpx

from ccr_asgi.agent_files import AgentFile, agent_files, faults_of
from ccr_asgi.config import Config, config_path, load_config
from ccr_asgi.credentials.auth_file import AuthFile
from ccr_asgi.credentials.login import Unusable
from ccr_asgi.errors import ConfigError
from ccr_asgi.offers import Answer, ask_all
from ccr_asgi.pricing import installed_on
from ccr_asgi.routing import RoutingTable
from ccr_asgi.running_server import look, url
from ccr_asgi.runtime import Runtime
from ccr_asgi.usage.database import Database
from ccr_asgi.usage.errors import StoreError

Level = Literal["ok", "warning", "problem"]

CLOCK_S = 300
"""Further off, logins and signatures begin to fail."""
OLD_PRICES = timedelta(days=60)
LITTLE_SPACE_BYTES = 200 * 1000 * 1000
PATIENCE_S = 10.0
ELSEWHERE = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
"""Set, they lead Claude Code past ANTHROPIC_BASE_URL."""
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""Set, Claude Code uses them in place of the subscription's login."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: about what, and what to do if it is not well."""

    level: Level
    subject: str
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where is looked: the user's home, the project's folder, the environment."""

    home: Path
    project: Path
    environ: Mapping[str, str]

    @classmethod
    def here(cls) -> "Place":
        """This process's own."""
        return cls(Path.home(), Path.cwd(), os.environ)


async def examine(place: Place) -> AsyncIterator[Finding]:
    """Make every check, one after the other; nothing is changed."""
    try:
        config = load_config()
    except ConfigError as error:
        yield Finding("problem", "configuration", str(error), "mend it; `ccr-asgi config check` says when it is well")
        return
    source = config.source or f"none at {config_path()}, so everything passes through to Anthropic"
    yield Finding("ok", "configuration", str(source))
    for warning in config.warnings:
        yield Finding("warning", "configuration", warning, "correct the name, or unset it")
    yield _port(config)
    for finding in _database(config):
        yield finding
    yield await _clock(config)
    for finding in _logins(config):
        yield finding
    answers = await ask_all([p for p in config.providers.values() if not p.passthrough], config)
    for finding in _providers(answers):
        yield finding
    for finding in _agents(config, answers, place):
        yield finding
    async for finding in _claude_code(config, place):
        yield finding
    yield _prices()


def _port(config: Config) -> Finding:
    answer = look(config)
    where = url(config)
    match answer.state:
        case "ready":
            return Finding("ok", "server", f"ccr-asgi {answer.version} runs at {where}")
        case "nothing":
            return Finding("ok", "server", f"none runs at {where}, and the port is free")
        case "foreign":
            return Finding(
                "problem", "server", f"something else answers at {where}", "end it, or set port (CCR_ASGI_PORT)"
            )
        case "not-ready":
            return Finding(
                "problem", "server", f"it runs at {where} without its database: {answer.reason}",
                "mend the database (below); the server takes it up by itself",
            )  # fmt: skip


def _database(config: Config) -> Iterator[Finding]:
    try:
        path = Database.parse(config.usage.database).path
    except StoreError as error:
        yield Finding("problem", "database", str(error), "correct usage.database")
        return
    if path is None:
        yield Finding("ok", "database", "a server; the running ccr-asgi says whether it answers")
        return
    folder = next(parent for parent in path.parents if parent.exists())
    if not os.access(folder, os.W_OK):
        yield Finding(
            "problem", "database", f"{folder} cannot be written", f"chown it to you: sudo chown $USER {folder}"
        )
    elif (free := shutil.disk_usage(folder).free) < LITTLE_SPACE_BYTES:
        yield Finding(
            "warning",
            "database",
            f"{free // 1_000_000} MB are left on its disk",
            "make room, or set usage.retentionDays",
        )
    if not path.exists():
        yield Finding("ok", "database", f"{path} does not exist yet; the first start makes it")
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
            (rows,) = connection.execute("SELECT COUNT(*) FROM requests").fetchone()
    except sqlite3.Error as error:
        yield Finding(
            "problem", "database", f"{path} cannot be read: {error}",
            f"move it away (mv {path} {path}.old) and a new one is begun; nothing of it is deleted",
        )  # fmt: skip
        return
    if not os.access(path, os.W_OK):
        yield Finding("problem", "database", f"{path} cannot be written", f"chmod u+w {path}, or give it to your user")
        return
    yield Finding("ok", "database", f"{path}, {rows:,} requests")


async def _clock(config: Config) -> Finding:
    """The clock against Anthropic's, whose answer also tells that it can be reached."""
    provider = config.providers["anthropic"]
    runtime = Runtime(config)
    try:
        async with asyncio.timeout(PATIENCE_S):
            request = httpx.Request("HEAD", provider.base_url, headers=[(b"accept", b"*/*")])
            response = await runtime.transport(config).handle_async_request(request)
            await response.aclose()
            told = parsedate_to_datetime(response.headers["date"])
    except (httpx.HTTPError, TimeoutError) as error:
        reason = str(error) or f"no answer within {PATIENCE_S:.0f} s"
        return Finding(
            "problem", "network", f"{provider.base_url} cannot be reached: {reason}",
            "check the connection; behind a proxy set network.proxy, and network.caFile for its certificates",
        )  # fmt: skip
    except (KeyError, ValueError):
        return Finding("ok", "network", f"{provider.base_url} answers")
    finally:
        await runtime.stop()
    off_s = abs((datetime.now(UTC) - told).total_seconds())
    if off_s > CLOCK_S:
        return Finding(
            "problem", "clock", f"it is off by {off_s / 60:.0f} minutes: logins will fail, and days be wrong",
            "set it: sudo timedatectl set-ntp true",
        )  # fmt: skip
    return Finding("ok", "network", f"{provider.base_url} answers, and the clock agrees with it")


def _logins(config: Config) -> Iterator[Finding]:
    for provider in config.providers.values():
        if not provider.chatgpt_login or provider.auth_file is None:
            continue
        path = Path(provider.auth_file)
        login, _ = AuthFile(path).read()
        if isinstance(login, Unusable):
            yield Finding("problem", f"login of {provider.name}", f"{path} {login.problem}", login.remedy)
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Finding("warning", f"login of {provider.name}", f"{path} can be read by others", f"chmod 600 {path}")
        until = (
            f", until {datetime.fromtimestamp(login.expires_at, UTC):%Y-%m-%d %H:%M} UTC" if login.expires_at else ""
        )
        state = (
            "has ended and is renewed with the next request"
            if login.is_expired(datetime.now(UTC).timestamp())
            else "holds"
        )
        yield Finding("ok", f"login of {provider.name}", f"{path} {state}{until}")


def _providers(answers: Sequence[Answer]) -> Iterator[Finding]:
    for answer in answers:
        subject = f"provider {answer.provider}"
        if answer.problem is not None:
            # Not every server has a list of models, so that none is no proof that requests would fail.
            level: Level = "warning" if "answered 404" in answer.problem else "problem"
            yield Finding(level, subject, answer.problem, _remedy(answer.problem))
            continue
        yield Finding("ok", subject, f"answers, and offers {len(answer.offers)} models")
        for model in answer.gone:
            yield Finding(
                "warning", subject, f"{model} stands under `models` and is not offered",
                f"take it out; `ccr-asgi models {answer.provider}` shows what is offered",
            )  # fmt: skip


def _remedy(problem: str) -> str:
    if "no key" in problem:
        return "set the variable where the server is started, or write apiKey into the configuration"
    if "refuse" in problem:
        return "put a valid key under apiKey; for a ChatGPT subscription run `codex login`"
    if "answered 404" in problem:
        return "if its requests are answered, all is well: it has no list of models; else correct baseUrl"
    return "check baseUrl and the network; `ccr-asgi models` asks again"


def _agents(config: Config, answers: Sequence[Answer], place: Place) -> Iterator[Finding]:
    table = RoutingTable(config.providers, rules=config.rules)
    offered = {
        answer.provider: [offer.model for offer in answer.offers] for answer in answers if answer.problem is None
    }
    count = faulty = 0
    folders = dict.fromkeys((place.home / ".claude/agents", place.project / ".claude/agents"))
    for path in agent_files(*folders):
        count += 1
        try:
            faults = list(faults_of(AgentFile.read(path), table, offered))
        except OSError as error:
            yield Finding("warning", "agent", f"{path} cannot be read: {error.strerror}", "make it readable")
            continue
        faulty += bool(faults)
        for fault in faults:
            yield Finding("problem" if fault.grave else "warning", f"agent {path}", fault.found, fault.fix)
    if not count:
        yield Finding("ok", "agents", "there is none yet; `ccr-asgi agents install` writes seven")
    elif not faulty:
        yield Finding("ok", "agents", f"{count} agent file{'' if count == 1 else 's'}, whose tags lead where they say")


async def _claude_code(config: Config, place: Place) -> AsyncIterator[Finding]:
    version = await _claude_version(place)
    if version is None:
        yield Finding(
            "warning", "Claude Code", "`claude` is not on the PATH", "npm install -g @anthropic-ai/claude-code"
        )
    else:
        yield Finding("ok", "Claude Code", version)
    settings = _settings(place)
    told = {**place.environ, **settings}
    for name in ELSEWHERE:
        if told.get(name, "0") not in ("", "0", "false"):
            yield Finding("problem", "Claude Code", f"{name} leads it past this server", f"unset {name}")
    for name in KEYS:
        if told.get(name):
            yield Finding(
                "warning", "Claude Code", f"{name} is set, so that it is used in place of your subscription",
                f"unset {name} if you mean your subscription",
            )  # fmt: skip
    base_url = told.get("ANTHROPIC_BASE_URL", "").rstrip("/")
    if not base_url:
        yield Finding(
            "ok", "Claude Code",
            f"start it by `ccr-asgi code`, or with ANTHROPIC_BASE_URL={url(config)}, which is not set here",
        )  # fmt: skip
    elif base_url != url(config) and base_url != url(config).replace("localhost", "127.0.0.1"):
        yield Finding(
            "warning", "Claude Code", f"ANTHROPIC_BASE_URL is {base_url}, which is not this server",
            f"set it to {url(config)}",
        )  # fmt: skip
    else:
        yield Finding("ok", "Claude Code", "ANTHROPIC_BASE_URL leads here")


async def _claude_version(place: Place) -> str | None:
    command = shutil.which("claude", path=place.environ.get("PATH"))
    if command is None:
        return None
    try:
        async with asyncio.timeout(PATIENCE_S):
            process = await asyncio.create_subprocess_exec(
                command, "--version", stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            said, _ = await process.communicate()
    except (OSError, TimeoutError):
        return f"{command} (it did not tell its version)"
    return said.decode("utf-8", "replace").strip()[:100] or command


def _settings(place: Place) -> dict[str, str]:
    """The variables that Claude Code's settings set, the project's over the user's."""
    found: dict[str, str] = {}
    for file in (place.home / ".claude/settings.json", place.project / ".claude/settings.json",
                 place.project / ".claude/settings.local.json"):  # fmt: skip
        try:
            told = json.loads(file.read_text(encoding="utf-8"))["env"]
            found |= {name: str(value) for name, value in told.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _prices() -> Finding:
    since = installed_on()
    if since is None:
        return Finding("ok", "prices", "the list does not tell its age")
    if datetime.now(UTC).date() - since > OLD_PRICES:
        return Finding("warning", "prices", f"the price list is of {since} or older", "pip install -U genai-prices")
    return Finding("ok", "prices", f"the list was installed on {since}")
