"""The verbs that start, show and stop a server in the background, and run Claude Code through it."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from ccr_asgi.cli_verbs import FAILED, Verbs, add_verb, complain, say
from ccr_asgi.config import Config, load_config
from ccr_asgi.running_server import Answer, folder, look, note_path, read_note, url
from ccr_asgi.serving import STOP_S

START_S = 30.0
POLL_S = 0.05

_CODE = """Run Claude Code through the proxy: a server is started in the background if none runs, and `claude` is
started with ANTHROPIC_BASE_URL set and nothing else changed, so that your Claude login stays in use. All arguments go
to Claude Code; its exit code is ours."""
_START = """Start the server in the background, unless one runs at the configured port; it goes on until `ccr-asgi
stop`. Its log is server-PORT.log in ~/.claude-code-router."""
_STATUS = """Show whether a server answers at the configured port, and whether its database can be used. The exit code
is 0 if both are so, else 1."""
_STOP = """Stop the server that `ccr-asgi serve` or `ccr-asgi code` started at the configured port: running streams get
timeouts.drainS seconds to end, and usage is written. It is well if none runs."""


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs to the command."""
    parser = add_verb(verbs, "code", "run Claude Code through the proxy", _CODE, run_code)
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="what Claude Code is given")
    add_verb(verbs, "start", "start the server in the background", _START, run_start)
    parser = add_verb(verbs, "status", "is a server running, and is it well", _STATUS, run_status)
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_verb(verbs, "stop", "stop the server", _STOP, run_stop)


def run_status(args: argparse.Namespace) -> int:
    """`ccr-asgi status`."""
    config = load_config()
    answer, note = look(config), read_note(config)
    told = {
        "url": url(config),
        "state": answer.state,
        "version": answer.version,
        "reason": answer.reason,
        "pid": note.pid if note else None,
        "started_at": note.started_at if note else None,
        "config": str(config.source) if config.source else None,
        "providers": list(config.providers),
        "database": config.usage.database,
    }
    if args.json:
        say(json.dumps(told))
    else:
        say(_STATES[answer.state].format(**told))
        for name in ("reason", "pid", "started_at", "config", "database"):
            if told[name] is not None:
                say(f"  {name.replace('_', ' '):12}{told[name]}")
        say(f"  {'providers':12}{', '.join(config.providers)}")
    return 0 if answer.state == "ready" else FAILED


_STATES = {
    "nothing": "No server runs at {url}. Start it: ccr-asgi serve, or ccr-asgi code.",
    "foreign": "Something else answers at {url}. Choose another port: CCR_ASGI_PORT, or port in the configuration.",
    "not-ready": "ccr-asgi {version} runs at {url}, but its database cannot be used.",
    "ready": "ccr-asgi {version} runs at {url}.",
}


def run_stop(args: argparse.Namespace) -> int:
    """`ccr-asgi stop`."""
    config = load_config()
    note = read_note(config)
    if note is None:
        if look(config).state in ("ready", "not-ready"):
            complain(f"the server at {url(config)} was not started by ccr-asgi serve: stop it where it was started")
            return FAILED
        say(f"No server runs at {url(config)}.")
        return 0
    os.kill(note.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + config.timeouts.drain_s + STOP_S + 1
    while read_note(config) is not None:
        if time.monotonic() > deadline_s:
            complain(f"process {note.pid} has not ended; {note_path(config)} names it")
            return FAILED
        time.sleep(POLL_S)
    say(f"The server at {url(config)} has stopped.")
    return 0


def run_code(args: argparse.Namespace) -> int:
    """`ccr-asgi code`: becomes Claude Code where the system can, so that signals and the terminal are its own."""
    config = load_config()
    claude = shutil.which("claude")
    if claude is None:
        complain("claude is not on the PATH. Install Claude Code: npm install -g @anthropic-ai/claude-code")
        return FAILED
    if not _running(config):
        return FAILED
    return _become([claude, *args.arguments], {**os.environ, "ANTHROPIC_BASE_URL": url(config)})


def run_start(args: argparse.Namespace) -> int:
    """`ccr-asgi start`."""
    config = load_config()
    if not _running(config):
        return FAILED
    say(f"A server runs at {url(config)}.")
    return 0


def _running(config: Config) -> bool:
    """Whether a server of ours runs, after one was started if nothing did; says what is in the way."""
    answer = look(config)
    if answer.state == "foreign":
        complain(_STATES["foreign"].format(url=url(config)))
        return False
    return answer.state != "nothing" or _start(config)


def _become(command: list[str], environment: dict[str, str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":
        return subprocess.call(command, env=environment)  # noqa: S603 -- the user's own program
    os.execve(command[0], command, environment)  # noqa: S606 -- as above


def _start(config: Config) -> bool:
    """Start a server in the background and wait until it answers; False, with a message, if it does not."""
    log = folder() / f"server-{config.port}.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    command = [sys.executable, "-m", "ccr_asgi", "serve"]
    with os.fdopen(descriptor, "w") as output:
        server = subprocess.Popen(  # noqa: S603 -- ourselves
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    answer = _await(config, server)
    if answer.state in ("ready", "not-ready"):
        complain(f"started a server at {url(config)}; it goes on until: ccr-asgi stop")
        return True
    complain(f"the server did not start: {_last_lines(log)}")
    return False


def _await(config: Config, server: "subprocess.Popen[bytes]") -> Answer:
    deadline_s = time.monotonic() + START_S
    while (answer := look(config)).state == "nothing" and server.poll() is None and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    return answer


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) or f"see {log}"
