"""One line for Claude Code's status line: what is left of each limit, and what was spent today.

It runs after every message, as a process of its own: so it loads little of the standard library and nothing else, and
asks the server that Claude Code itself talks to for `/api/quota`. Neither the configuration nor the database is read.
"""

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

DEFAULT_URL = "http://127.0.0.1:3456"
TIMEOUT_S = 1.0
MAX_ANSWER_BYTES = 1024 * 1024
SHOWN_FROM_PERCENT = 80.0
"""A budget that is used less than this is not worth a place on the line."""

DESCRIPTION = """Print one line for Claude Code's status line: how much of each limit is used and when it begins anew,
when it runs out at this pace, and what was saved and billed today. Claude Code gives its state on standard input. In
~/.claude/settings.json: {"statusLine": {"type": "command", "command": "ccr-asgi statusline"}}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb to its parser."""
    parser.add_argument("--url", help=f"the server; default: ANTHROPIC_BASE_URL, else {DEFAULT_URL}")


def main(argv: Sequence[str]) -> int:
    """Run `ccr-asgi statusline` with these arguments; returns 0, since Claude Code hides the line of any other code."""
    parser = argparse.ArgumentParser(prog="ccr-asgi statusline", description=DESCRIPTION)
    add_arguments(parser)
    return run(parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Print the line; see `main`."""
    state = _state()
    url = args.url or os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_URL
    try:
        parts = list(_parts(_ask(url, os.environ), datetime.now().astimezone()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        parts = [f"ccr-asgi: no answer that is understood from {url} ({error})"]
    line = " | ".join([*_model(state), *parts])
    print("".join(sign for sign in line if sign.isprintable()))  # noqa: T201 -- a command speaks on its standard output
    return 0


def _state() -> Any:
    """What Claude Code says of its session; None if nothing that can be understood came."""
    if sys.stdin.isatty():
        return None
    try:
        return json.loads(sys.stdin.buffer.read())
    except (ValueError, RecursionError):
        return None


def _ask(url: str, environ: Mapping[str, str]) -> Any:
    """The JSON of `/api/quota` since this machine's midnight.

    Raises:
        OSError: The server does not answer.
        ValueError: It is not one of ours, or refuses.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is no http:// or https:// URL")
    midnight = datetime.combine(datetime.now().date(), datetime.min.time()).astimezone()
    target = f"{parts.path.rstrip('/')}/api/quota?from={quote(midnight.isoformat())}"
    lines = [
        f"GET {target} HTTP/1.0",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Connection: close",
        *_key(environ),
        "",
        "",
    ]
    address = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    with socket.create_connection(address, TIMEOUT_S) as connection:
        answer = _exchange(_secured(connection, parts.hostname) if parts.scheme == "https" else connection, lines)
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head[:64].split(b" ")[1:2]
    if status != [b"200"]:
        raise ValueError(f"status {status[0].decode('ascii', 'replace')}" if status else "it is no HTTP server")
    return json.loads(body)


def _exchange(connection: socket.socket, lines: Sequence[str]) -> bytes:
    connection.sendall("\r\n".join(lines).encode("latin-1", "replace"))
    answer = b""
    while (part := connection.recv(65_536)) and len(answer) < MAX_ANSWER_BYTES:
        answer += part
    return answer


def _secured(connection: socket.socket, host: str) -> socket.socket:
    import ssl  # only where it is needed: it takes as long to load as all the rest

    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def _key(environ: Mapping[str, str]) -> list[str]:
    """The proxy key that Claude Code was told to send along, as the same header field."""
    given = environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines()
    return [line.strip() for line in given if line.strip().lower().startswith("x-ccr-key:")]


def _model(state: Any) -> list[str]:
    model = state.get("model") if isinstance(state, dict) else None
    name = model.get("display_name") if isinstance(model, dict) else None
    return [name] if isinstance(name, str) and name else []


def _parts(told: Any, now: datetime) -> Iterator[str]:
    """What stands on the line, of an answer of `/api/quota`."""
    for window in told["windows"]:
        if window["used_percent"] is not None:
            name = window["label"]
            if window["provider"] != "anthropic":
                name = f"{window['provider']} {name}"
            yield f"{name} {window['used_percent']:.0f}%{_outlook(window, now)}"
    for budget in told["budgets"]:
        if budget["used_percent"] >= SHOWN_FROM_PERCENT:
            yield f"budget of {budget['label']} {budget['used_percent']:.0f}%"
    spent = told["spent"]
    yield f"today saved {_usd(spent['saved_usd'])}, billed {_usd(spent['billed_usd'])}"


def _outlook(window: Mapping[str, Any], now: datetime) -> str:
    runs_out_at, resets_at = window["forecast"]["runs_out_at"], window["resets_at"]
    if runs_out_at is not None:
        return f" (out in {_until(runs_out_at, now)}, anew in {_until(resets_at, now)})"
    return f" (anew in {_until(resets_at, now)})" if resets_at is not None else ""


def _until(moment: str, now: datetime) -> str:
    minutes = max(0, int((datetime.fromisoformat(moment) - now).total_seconds() // 60))
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    return f"{days}d {hours}h" if days else f"{hours}h {minutes:02}m" if hours else f"{minutes}m"


def _usd(amount: float | None) -> str:
    return "-" if amount is None else f"-${-amount:.2f}" if amount < 0 else f"${amount:.2f}"
