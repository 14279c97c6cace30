"""docs/cli.md tells every verb and every option, and none that is not there."""

import argparse
import re
from collections.abc import Iterator

import pytest

from ccr_asgi.cli import parser
from tests.support.server import CHECKOUT

PAGE = (CHECKOUT / "docs/cli.md").read_text()
SECTIONS = dict(re.findall(r"^## `ccr-asgi ([^`]+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def commands(of: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, by the words that call it."""
    nested = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield name, of
    for action in nested:
        for word, below in action.choices.items():
            yield from commands(below, f"{name} {word}".strip())


COMMANDS = dict(commands(parser()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_is_told_with_all_its_options(name: str) -> None:
    section = SECTIONS[name] if name in SECTIONS else SECTIONS[name.split()[0]]
    assert name in SECTIONS or f"`{name.split()[-1]}" in section, name
    for action in COMMANDS[name]._actions:
        for option in action.option_strings:
            if option.startswith("--") and option != "--help":
                assert f"`{option}" in section, (name, option)


def test_no_verb_is_told_that_is_not_there() -> None:
    known = {*COMMANDS, *(name.split()[0] for name in COMMANDS)}
    assert set(SECTIONS) <= known


@pytest.mark.parametrize("name", SECTIONS)
def test_no_option_is_told_that_is_not_there(name: str) -> None:
    known = {
        option for command, found in COMMANDS.items() if command.split()[0] == name.split()[0]
        for action in found._actions for option in action.option_strings
    }  # fmt: skip
    assert set(re.findall(r"`(--[a-z0-9-]+)", SECTIONS[name])) <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str) -> None:
    assert len(COMMANDS[name].description or "") > 60, name
