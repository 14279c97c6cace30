"""The list of surviving mutants speaks of code and tests that are there."""

import tomllib
from typing import Any

import pytest

from tests.mutation.run import ROOT, SURVIVORS, TESTS

ENTRIES: list[dict[str, Any]] = tomllib.loads(SURVIVORS.read_text())["survivor"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["line"])
def test_a_survivor_is_a_change_of_a_line_and_has_a_reason(entry: dict[str, Any]) -> None:
    assert entry["modules"]
    for module in entry["modules"]:
        source = (ROOT / "ccr_asgi" / "formats" / f"{module}.py").read_text()
        assert set(entry["line"].splitlines()) <= {line.strip() for line in source.splitlines()}
    assert entry["line"] not in entry["becomes"]
    assert len(set(entry["becomes"])) == len(entry["becomes"]) > 0
    assert entry["reason"].strip()


def test_every_module_is_mutated() -> None:
    modules = {path.stem for path in (ROOT / "ccr_asgi" / "formats").glob("*.py")} - {"__init__"}
    assert modules == TESTS.keys()


@pytest.mark.parametrize("module", list(TESTS))
def test_every_module_has_tests_to_judge_it(module: str) -> None:
    for name in TESTS[module]:
        assert (ROOT / "tests" / "formats" / f"test_{name}.py").is_file()
