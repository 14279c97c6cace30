"""Changes `ccr_asgi/formats/` a little in every place, and says which changes no test notices.

    python -m tests.mutation.run TOOLS [MODULE ...]

Cosmic Ray makes the changes, in a copy of the tree; TOOLS is the folder of its programs. Each module is judged by the
test files that `TESTS` names for it. What survives must stand in `survivors.toml` with its reason, and nothing else may
stand there: any difference is printed, and ends the run with status 1. README.md says how to run it.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")

MUTANT_TIMEOUT_S = 60

TESTS: dict[str, tuple[str, ...]] = {
    "tool_names": ("tool_names",),
    "tool_schemas": ("tool_schemas",),
    "reasoning_effort": ("reasoning_effort",),
    "output_format": ("output_format",),
    "tool_arguments": ("tool_arguments",),
    "system_prompt": ("system_prompt",),
    "fields": ("fields",),
    "partial_json": ("partial_json",),
    "anthropic": ("anthropic",),
    "count_tokens": ("count_tokens",),
    "base": ("base",),
    "tools": ("openai_chat_tools",),
    "parts": ("parts",),
    "conversation": ("conversation", "openai_chat_messages", "parts"),
    "message_writer": ("message_writer",),
    "answer_machine": ("answer_machine", "openai_chat_stream"),
    "openai_chat_calls": ("openai_chat_calls", "openai_chat_stream"),
    "openai_chat_messages": ("openai_chat_messages", "parts"),
    "openai_chat_request": ("openai_chat_request",),
    "openai_chat_stream": ("openai_chat_stream", "openai_chat_calls"),
    "openai_chat_tools": ("openai_chat_tools",),
    "openai_chat": ("openai_chat",),
    "openai_errors": ("openai_errors",),
    "openai_reasoning": ("openai_reasoning",),
    "openai_responses": ("openai_responses", "openai_responses_retry"),
    "openai_responses_errors": ("openai_responses_errors",),
    "openai_responses_input": ("openai_responses_input",),
    "openai_responses_items": ("openai_responses_items",),
    "openai_responses_output": ("openai_responses_output", "openai_responses_searches", "openai_responses_stream"),
    "openai_responses_request": ("openai_responses_request",),
    "openai_responses_stream": ("openai_responses_stream",),
    "openai_responses_tools": ("openai_responses_tools",),
}
"""Each module, and the files that hold its tests: `tests/formats/test_….py`, the likeliest to notice first."""

NOT_MUTATED = (
    r"core/ReplaceBinaryOperator_BitOr_",  # in formats/ a `|` joins types, in annotations, `isinstance` and patterns
    r"core/ReplaceComparisonOperator_(Is_Eq|IsNot_NotEq)",  # `is None` and `== None` are the same here
    r"core/ReplaceComparisonOperator_(Is|IsNot)_(Lt|LtE|Gt|GtE)",  # None has no order: a crash in any test
    r"core/ReplaceComparisonOperator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)",  # equal or the same: CPython's affair
    r"core/Variable",  # need variables named one by one
)
"""Changes that say nothing about the tests, by their operators' names. Texts (messages, logs, docstrings) are never
changed by Cosmic Ray."""


class Mutant(NamedTuple):
    """A change: in which module, which line, and what that becomes ("" where the line goes)."""

    module: str
    line: str
    becomes: str


def listed(modules: Iterable[str]) -> dict[Mutant, str]:
    """The known survivors of `modules`, each with its reason."""
    entries = tomllib.loads(SURVIVORS.read_text())["survivor"]
    return {
        Mutant(module, entry["line"], becomes): entry["reason"]
        for entry in entries
        for module in entry["modules"]
        if module in modules
        for becomes in entry["becomes"]
    }


def config(module: str) -> str:
    """Cosmic Ray's configuration for one module, as TOML."""
    files = dict.fromkeys(f"tests/formats/test_{name}.py" for name in TESTS[module])
    pytest = f"{sys.executable} -m pytest -x -q -p no:cacheprovider -p no:xdist -p no:pytest_cov"
    return f"""
[cosmic-ray]
module-path = "ccr_asgi/formats/{module}.py"
timeout = {MUTANT_TIMEOUT_S}.0
excluded-modules = []
test-command = "{pytest} -p tests.mutation.few_examples {" ".join(files)}"

[cosmic-ray.distributor]
name = "local"

[cosmic-ray.filters.operators-filter]
exclude-operators = {json.dumps(NOT_MUTATED)}
"""


def mutate(module: str, copy: Path, tools: Path) -> tuple[int, int, list[Mutant]]:
    """Try every mutant of a module within `copy`; returns how many there were, how many took too long, and survivors.

    Raises:
        subprocess.CalledProcessError: The tests fail without any change, or a program of Cosmic Ray's does.
    """
    toml, session = copy / "mutants.toml", copy / "mutants.sqlite"
    toml.write_text(config(module))
    session.unlink(missing_ok=True)
    _run(tools / "cosmic-ray", "baseline", toml)
    _run(tools / "cosmic-ray", "init", toml, session)
    _run(tools / "cr-filter-operators", session, toml)
    _run(tools / "cosmic-ray", "exec", toml, session)
    jobs = map(json.loads, _run(tools / "cosmic-ray", "dump", session).splitlines())
    tried = [result for _, result in jobs if result["worker_outcome"] == "normal"]
    survived = [_mutant(module, result["diff"]) for result in tried if result["test_outcome"] != "killed"]
    return len(tried), sum(result["output"] == "timeout" for result in tried), survived


def _mutant(module: str, diff: str) -> Mutant:
    changed = [
        (line[0], line[1:].strip()) for line in diff.splitlines() if line and not line.startswith(("---", "+++"))
    ]
    before, after = ("\n".join(text for sign, text in changed if sign == own and text) for own in "-+")
    return Mutant(module, before, after)


def _run(program: Path, *arguments: str | Path) -> str:
    folder = Path(arguments[-1]).parent
    return subprocess.run([program, *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(tools: str, *modules: str) -> int:
    """Mutate `modules`, or all of them; returns the exit status."""
    chosen = modules or tuple(TESTS)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(shutil.copytree(ROOT, Path(folder) / "copy", ignore=shutil.ignore_patterns(".*", "__pycache__")))
        survivors: set[Mutant] = set()
        for module in chosen:
            tried, slow, survived = mutate(module, copy, Path(tools).absolute())
            survivors.update(survived)
            killed = f"{tried - len(survived)} killed ({slow} of them took too long)"
            print(f"{module}: {tried} mutants, {killed}, {len(survived)} survived", flush=True)
    reasons = listed(chosen)
    for title, mutants in (("No test notices", survivors - reasons.keys()), ("Killed", reasons.keys() - survivors)):
        for mutant in sorted(mutants):
            print(f"{title}: {mutant.module}\n    {mutant.line}\n    {mutant.becomes or '(left out)'}")
    return int(survivors != reasons.keys())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
