"""The server that runs on this machine, for the commands that start, show and stop it.

Whether one answers is asked of its port: `/healthz` names us in a header, since a foreign server may answer there too.
Which process it is stands in a note that `ccr-asgi serve` leaves beside the configuration while it runs; a server that
was started in another way (uvicorn, a host app) leaves none.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Literal

from ccr_asgi.config import DEFAULT_PATH, Config

VERSION_HEADER = "x-ccr-asgi"
TIMEOUT_S = 3.0

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared with, not bound to


@dataclass(frozen=True, slots=True)
class Note:
    """What `serve` leaves: its process, and when it began (ISO 8601, UTC)."""

    pid: int
    version: str
    started_at: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is at the configured port.

    Attributes:
        state: Nothing, something foreign, or ours; ours is `ready` if its database can be used.
        version: Ours.
        reason: Why it is not ready, in its own words.
    """

    state: Literal["nothing", "foreign", "not-ready", "ready"]
    version: str | None = None
    reason: str | None = None


def address(config: Config) -> tuple[str, int]:
    """Where a program of this machine reaches the server."""
    return _EVERYWHERE.get(config.host, config.host), config.port


def url(config: Config) -> str:
    """The same, as Claude Code is told it."""
    host, port = address(config)
    shown = "localhost" if host in ("127.0.0.1", "::1") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def look(config: Config) -> Answer:
    """Ask the configured port who is there."""
    try:
        status, version, _ = _get(config, "/healthz")
    except ConnectionRefusedError:
        return Answer("nothing")
    except (OSError, HTTPException):
        return Answer("foreign")
    if status != 200 or version is None:
        return Answer("foreign")
    with suppress(OSError, HTTPException):
        status, _, text = _get(config, "/readyz")
        return Answer("ready", version) if status == 200 else Answer("not-ready", version, _message(text))
    return Answer("not-ready", version, "it does not answer")


def _get(config: Config, path: str) -> tuple[int, str | None, str]:
    connection = HTTPConnection(*address(config), timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader(VERSION_HEADER), answer.read(100_000).decode("utf-8", "replace")
    finally:
        connection.close()


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return text[:200]


# The note


def folder() -> Path:
    """Where the note and the log of a server in the background are."""
    return Path(DEFAULT_PATH).expanduser().parent


def note_path(config: Config) -> Path:
    """The note of the server at the configured port."""
    return folder() / f"server-{config.port}.json"


@contextmanager
def noted(config: Config, note: Note) -> Iterator[None]:
    """Leave `note` for as long as the server runs; where it cannot be written, `stop` will say so."""
    path = note_path(config)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(note), file)
    try:
        yield
    finally:
        if read_note(config) == note:
            path.unlink(missing_ok=True)


def read_note(config: Config) -> Note | None:
    """The note of the server at the configured port; None if there is none, or its process is gone."""
    try:
        note = Note(**json.loads(note_path(config).read_text()))
        os.kill(note.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return note
