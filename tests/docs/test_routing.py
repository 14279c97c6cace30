"""docs/routing.md: each row of its tables is a request, and goes where the page says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccr_asgi.cli_explain import Explanation, explain
from ccr_asgi.config import Config, load_config
from ccr_asgi.errors import RequestError
from ccr_asgi.routing import TAG_NAME, Route
from tests.support.server import CHECKOUT

PAGE = (CHECKOUT / "docs/routing.md").read_text()
MODEL = "claude-haiku-4-5"


def rows(header: str) -> Iterator[list[str]]:
    """The cells of a table, whose first line is `header`, without their backquotes."""
    table = PAGE.partition(f"| {header} |\n")[2].partition("\n\n")[0]
    for line in table.splitlines()[1:]:
        yield [re.sub(r"^(`+)(.*)\1$", r"\2", cell.strip()) for cell in line.strip("|").split(" |")]


def tag(content: str) -> str:
    return f"<{TAG_NAME}>{content}</{TAG_NAME}>"


def place(route: Route) -> str:
    """A route in the page's words: the provider, and the model unless it is the one that was asked for."""
    return ",".join(filter(None, (route.provider.name, route.model)))


def asked(config: Config, model: str, content: str = "", *, system: str = "", agent: str = "") -> Explanation:
    system = tag(content) + "\nYou write code." if content else system
    body = {"model": model, "max_tokens": 9, "system": system, "messages": [{"role": "user", "content": "hi"}]}
    return explain(json.dumps(body).encode(), config, agent or None)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The page's own configuration."""
    found = re.search(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "config.json").write_text(found[1])
    for name in re.findall(r"\$\{(\w+)\}", found[1]):
        monkeypatch.setenv(name, "an-invented-key")
    monkeypatch.delenv("SPARE_KEY")
    return load_config(tmp_path / "config.json")


PRECEDENCE = list(rows("model | tag | agent | goes to | reason"))
FORMS = list(rows("tag | goes to | note"))
PLACES = list(rows("system text | routes"))
REFUSALS = list(rows("model | tag | the answer says"))
CHAINS = list(rows("tag | then"))


def test_all_tables_were_found() -> None:
    assert [len(table) for table in (PRECEDENCE, FORMS, PLACES, REFUSALS, CHAINS)] == [11, 10, 8, 8, 2]


@pytest.mark.parametrize(("model", "content", "agent", "target", "reason"), PRECEDENCE)
def test_what_wins(config: Config, model: str, content: str, agent: str, target: str, reason: str) -> None:
    found = asked(config, model, content, agent=agent)
    assert (place(found.route), found.route.reason) == (target, reason)


@pytest.mark.parametrize(("content", "target", "note"), FORMS)
def test_what_a_tag_may_say(config: Config, content: str, target: str, note: str) -> None:
    found = asked(config, MODEL, content)
    assert (place(found.route), found.route.reason) == (target, "tag"), note
    assert TAG_NAME not in json.dumps(found.body)


@pytest.mark.parametrize(("system", "routes"), PLACES)
def test_where_a_tag_counts(config: Config, system: str, routes: str) -> None:
    found = asked(config, MODEL, system=system.replace("⏎", "\n").replace("TAG", tag("codex,gpt-6-sol")))
    assert found.route.reason == {"yes": "tag", "no": "default"}[routes]


@pytest.mark.parametrize(("model", "content", "says"), REFUSALS)
def test_what_leads_nowhere(config: Config, model: str, content: str, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        asked(config, model, content)
    assert says in refused.value.message
    assert refused.value.status == 400


@pytest.mark.parametrize(("content", "then"), CHAINS)
def test_what_is_asked_when_it_fails(config: Config, content: str, then: str) -> None:
    links = [place(link) for link in asked(config, MODEL, content).fallbacks]
    assert links == [link.strip("` ") for link in then.split(";") if link]
