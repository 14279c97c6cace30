"""`ccr-asgi config`: is the configuration understood, a first one, and its JSON Schema."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ccr_asgi.cli_verbs import FAILED, Verbs, add_verb, complain, say
from ccr_asgi.config import config_path, load_config
from ccr_asgi.config_file import ConfigFile
from ccr_asgi.errors import ConfigError
from ccr_asgi.startup import describe

_CONFIG = """Look at the configuration file: ~/.claude-code-router/config.json, or what CCR_ASGI_CONFIG names."""
_CHECK = """Read the configuration as the server would and say what it makes of it. The exit code is 0 if it is
understood, else 2; what is odd but usable is said as a warning."""
_INIT = """Write a first configuration file with the providers that you seem to have: Cerebras if CEREBRAS_API_KEY is
set, Codex if its CLI is logged in, else an example to fill in. Secrets stay in the environment. A file that is there
is never changed."""
_SCHEMA = """Print the JSON Schema of the configuration file, for editors that check and complete by one."""

CODEX_LOGIN = Path("~/.codex/auth.json")


def add_verbs(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = verbs.add_parser("config", help="check, begin or describe the configuration", description=_CONFIG)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = add_verb(actions, "check", "is it understood, and what does it say", _CHECK, run_check)
    check.add_argument("file", nargs="?", type=Path, help="another file than the configured one")
    check.add_argument("--json", action="store_true", help="print it as JSON")
    add_verb(actions, "init", "write a first one", _INIT, run_init)
    add_verb(actions, "schema", "print its JSON Schema", _SCHEMA, run_schema)


def run_check(args: argparse.Namespace) -> int:
    """`ccr-asgi config check [FILE]`."""
    file = args.file or config_path()
    try:
        config = load_config(args.file)
    except ConfigError as error:
        if not args.json:
            raise
        say(json.dumps({"file": str(file), "understood": False, "error": str(error)}))
        return 2
    if args.json:
        said = {"file": str(file), "understood": True, "exists": config.source is not None}
        say(json.dumps({**said, "providers": list(config.providers), "warnings": config.warnings}))
        return 0
    for line in describe(config, file):
        say(line)
    return 0


def run_init(args: argparse.Namespace) -> int:
    """`ccr-asgi config init`."""
    file = config_path()
    content = json.dumps(first_config(os.environ, CODEX_LOGIN.expanduser().exists()), indent=2) + "\n"
    if file.exists():
        complain(f"{file} is there already and was left as it is; `ccr-asgi config check` says what it makes of it")
        return FAILED
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(file, "x", encoding="utf-8", opener=_private) as opened:
            opened.write(content)
    except OSError as error:
        complain(f"{file} cannot be written: {error.strerror}")
        return FAILED
    say(f"{file} is written:\n\n{content}")
    say("Next: `ccr-asgi config check`, and an agent whose system prompt begins with a tag: `ccr-asgi agents install`.")
    return 0


def run_schema(args: argparse.Namespace) -> int:
    """`ccr-asgi config schema`."""
    say(json.dumps(schema(), indent=2))
    return 0


def first_config(environ: Mapping[str, str], codex_login: bool) -> dict[str, Any]:
    """What the first file holds: nobody's secret, and no list of models, which go stale."""
    providers: dict[str, Any] = {"anthropic": {"passthrough": True}}
    if environ.get("CEREBRAS_API_KEY") or not codex_login:
        providers["cerebras"] = {"apiKey": "${CEREBRAS_API_KEY}"}
    if codex_login:
        providers["codex"] = {"authFile": str(CODEX_LOGIN)}
    return {"providers": providers}


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the configuration file."""
    described: dict[str, Any] = msgspec.json.schema(ConfigFile)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of ccr-asgi",
        **described,
    }


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
