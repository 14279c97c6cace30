"""`ccr-asgi doctor`: what is wrong, and how to mend it."""

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ccr_asgi.cli_verbs import FAILED, Verbs, add_verb, say

if TYPE_CHECKING:
    from ccr_asgi.doctor import Finding

MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}

_DOCTOR = """Look for what is wrong, and say how to mend it: the configuration, the port, the database, the network and
the clock, logins and keys (each provider is asked for its models), the agent files of ~/.claude/agents and
.claude/agents, Claude Code and its variables, the age of the prices. Nothing is changed, and no secret is shown. The
exit code is 1 if there is a problem; warnings are none."""


def add_verbs(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = add_verb(verbs, "doctor", "what is wrong, and how to mend it", _DOCTOR, run)
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """`ccr-asgi doctor`."""
    found = asyncio.run(_examined(quiet=args.json))
    if args.json:
        say(json.dumps([asdict(finding) for finding in found]))
    problems = sum(finding.level == "problem" for finding in found)
    if not args.json:
        say(f"\n{problems} problem{'' if problems == 1 else 's'}" if problems else "\nNothing is wrong.")
    return FAILED if problems else 0


async def _examined(*, quiet: bool) -> "list[Finding]":
    from ccr_asgi.doctor import Place, examine

    found = []
    async for finding in examine(Place.here()):
        found.append(finding)
        if not quiet:
            say(f"{MARKS[finding.level]}{finding.subject}: {finding.found}")
            if finding.fix:
                say(f"        -> {finding.fix}")
    return found
