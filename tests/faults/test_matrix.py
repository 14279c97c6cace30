"""The table of faults, the tests behind it and the page about it say the same."""

import ast
import re
from pathlib import Path

import pytest

from tests.faults.conftest import SERVERS
from tests.faults.matrix import FAULTS, Table, elsewhere, fault_of

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "reliability.md").read_text("utf-8")


@pytest.mark.parametrize("node_id", sorted(set(elsewhere())))
def test_a_test_of_another_folder_is_there(node_id: str) -> None:
    path, _, name = node_id.partition("::")
    top_level = ast.parse((CHECKOUT / path).read_text("utf-8")).body
    functions = {node.name for node in top_level if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert not name or name in functions
    assert fault_of(f"{node_id}[x]" if name else f"{node_id}::test_x") is not None


def test_every_fault_is_shown_by_some_test() -> None:
    sources = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    marked = set(re.findall(r'mark\.fault\("([^"]+)"\)', sources))
    assert marked <= FAULTS.keys()
    assert [name for name, fault in FAULTS.items() if name not in marked and not fault.elsewhere] == []


def test_the_page_has_the_table() -> None:
    rows = PAGE.partition("| fault | expected |\n|---|---|\n")[2].splitlines()
    assert rows == [f"| {name} | {fault.expected} |" for name, fault in FAULTS.items()]


@pytest.mark.parametrize("page", ["docs/reliability.md", "SECURITY.md"])
def test_the_tests_that_a_page_names_are_there(page: str) -> None:
    named = set(re.findall(r"`(tests/[\w/.]+)`", (CHECKOUT / page).read_text("utf-8")))
    assert named
    assert [path for path in sorted(named) if not (CHECKOUT / path).exists()] == []


def test_the_table_tells_what_is_missing() -> None:
    table = Table()
    one, other, third, *rest = FAULTS
    table.add(one, "h11", "passed", ["7 ms", "7 ms"])
    table.add(one, "granian", "failed")
    table.add(other, "", "skipped")
    table.add(third, "", "passed")
    assert table.incomplete == [other, *rest]
    lines = list(table.lines())
    assert lines[2].endswith("| h11: 7 ms")
    assert lines[3].endswith("| granian: FAILED 1 of 1")
    assert lines[4].endswith("| NOT RUN")
    assert lines[5].endswith("| so it is (1)")
    assert len(lines) == len(FAULTS) + 3


def test_the_servers_are_the_three() -> None:
    assert list(SERVERS) == ["httptools", "h11", "granian"]
