"""Completions and short names, in real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccr_asgi.cli_shell import NAMES, SHELLS

COMMAND = Path(sys.executable).with_name("ccr-asgi")


def printed(*arguments: str) -> str:
    ended = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=50, check=True)
    return ended.stdout


def completed(line: str) -> set[str]:
    """What the shell would offer behind `line`."""
    environment = {
        "PATH": os.environ["PATH"], "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line,
        "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout",
    }  # fmt: skip
    ended = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, timeout=50, check=True)
    return {word.strip() for word in ended.stdout.replace("\x0b", "\n").split("\n")} - {""}


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_printed_is_understood_by_the_shell(shell: str) -> None:
    for verb in ("completions", "shell-init"):
        text = printed(verb, shell)
        assert "ccr-asgi" in text
        if (program := shutil.which(shell)) is not None:
            subprocess.run([program, "-n"], input=text, text=True, timeout=50, check=True)


def test_verbs_and_options_are_offered() -> None:
    assert {"doctor", "demo", "usage"} <= completed("ccr-asgi ")
    assert {"whatif"} == completed("ccr-asgi wh")
    assert "--range" in completed("ccr-asgi usage --ra")
    assert {"fish"} <= completed("ccr-asgi completions f")


def test_the_short_names_call_the_verbs(tmp_path: Path) -> None:
    (tmp_path / "ccr-asgi").write_text('#!/bin/sh\necho "called $@"\n')
    (tmp_path / "ccr-asgi").chmod(0o755)
    script = printed("shell-init", "bash") + "".join(f"\n{name} 'two words' --x" for name in NAMES)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=50, check=True
    )
    assert ended.stdout.splitlines() == [f"called {verb} two words --x" for verb in NAMES.values()]
