"""Where a request goes: the tag rule as a table, the names of models and providers, and what is refused."""

import dataclasses
from typing import Any

import pytest

from ccr_asgi.config import Provider, RuleEntry
from ccr_asgi.errors import RequestError
from ccr_asgi.routing import Facts, Route, RoutingTable, Tag, find_tag, strip_tag, system_texts, without_suffix

TAG = "<CCR-SUBAGENT-MODEL>cerebras,gpt-oss-120b</CCR-SUBAGENT-MODEL>"
SAID = "cerebras,gpt-oss-120b"
OTHER = "<CCR-SUBAGENT-MODEL>codex,gpt-5.1</CCR-SUBAGENT-MODEL>"
BILLING = "x-anthropic-billing-header: cc_version=1; cc_is_subagent=true;"


def block(text: str) -> dict[str, object]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}


def said(system: object) -> str | None:
    """What the tag that routes says; None if none routes."""
    tag = find_tag(system)
    assert tag is None or tag.content is not None
    return tag.content if tag is not None else None


# where a tag counts: system field, and what routes

PLACES: dict[str, tuple[object, str | None]] = {
    "at the start": (f"{TAG}\nYou review code.", SAID),
    "alone": (TAG, SAID),
    "at the start, with text after it on the line": (f"{TAG} You review code.", SAID),
    "at the start after white space": (f" \n\t\r\n{TAG}You review code.", SAID),
    "at the start after more blank lines than ten": ("\n" * 30 + TAG, SAID),
    "on a line of its own below an intro": (f"You review code.\n{TAG}\nBe brief.", SAID),
    "indented on a line of its own": (f"You review code.\n   {TAG}  \nBe brief.", SAID),
    "on a line of its own with CRLF": (f"You review code.\r\n{TAG}\r\nBe brief.", SAID),
    "on the tenth line": ("line\n" * 9 + TAG, SAID),
    "on the eleventh line": ("line\n" * 10 + TAG, None),
    "on the tenth line, counted from a blank start": ("\n" * 4 + "line\n" * 5 + TAG, SAID),
    "on the eleventh line, counted from a blank start": ("\n" * 4 + "line\n" * 6 + TAG, None),
    "at the end of a line": (f"You review code. {TAG}\nBe brief.", None),
    "in the middle of a line": (f"Agents carry {TAG} as their tag.", None),
    "at the beginning of a later line with text after it": (f"You review code.\n{TAG} is a tag.", None),
    "quoted": (f'You review code.\n"{TAG}"', None),
    "as a list item": (f"You review code.\n- {TAG}", None),
    "in a code fence": (f"An example:\n```\n{TAG}\n```\nNo more.", None),
    "in a code fence with a language": (f"An example:\n```markdown\n{TAG}\n```", None),
    "in a fence of tildes": (f"An example:\n~~~\n{TAG}\n~~~", None),
    "in an indented fence": (f"An example:\n  ```\n  {TAG}\n  ```", None),
    "in a fence that is never closed": (f"An example:\n```\nx\n{TAG}", None),
    "below a fence": (f"An example:\n```\nx\n```\n{TAG}", SAID),
    "in a fence that holds the other sort": (f"An example:\n```\n~~~\n{TAG}\n~~~\n```", None),
    "in a longer fence that holds a shorter one": (f"An example:\n````\n```\n{TAG}\n```\n````", None),
    "in a fence that holds the start of another": (f"An example:\n```\n```python\n{TAG}\n```", None),
    "below a longer end of a fence": (f"An example:\n```\nx\n`````\n{TAG}", SAID),
    "below a line that is code, not a fence": (f"Say ```x``` now:\n```x``` then\n{TAG}", SAID),
    "at the start of what is a fence only later": (f"{TAG}\n```\nx\n```", SAID),
    "twice: the first wins": (f"{TAG}\n{OTHER}", SAID),
    "twice: the first that counts wins": (f"Not {TAG} but\n{OTHER}", "codex,gpt-5.1"),
    "in another case": (TAG.lower(), None),
    "across two lines": ("You review code.\n<CCR-SUBAGENT-MODEL>a,\nb</CCR-SUBAGENT-MODEL>", "refused"),
    "prose about the tag": ("You review code.\n<CCR-SUBAGENT-MODEL> is its routing tag; explain it.", None),
    "in a text block": ([block(TAG)], SAID),
    "in a later block, at its start": (
        [block(BILLING), block("You are an agent."), block(f"{TAG}\nYou review.")],
        SAID,
    ),
    "in a block on a line of its own": ([block(BILLING), block(f"Intro.\n{TAG}\nYou review.")], SAID),
    "in two blocks: the first wins": ([block(OTHER), block(TAG)], "codex,gpt-5.1"),
    "in the tail of the last block, after a git log": (
        [block(BILLING), block("You are.\n" + "text\n" * 40 + f"gitStatus:\nabc Add {TAG}\n{TAG}\n")],
        None,
    ),
    "in a block that is not text": ([{"type": "image", "text": TAG}, {"type": "text", "text": [TAG]}, TAG, None], None),
    "in a lone block": ({"type": "text", "text": TAG}, None),
    "nowhere": ("You review code.", None),
    "empty": ("", None),
    "no system": (None, None),
    "a number": (7, None),
}


@pytest.mark.parametrize(("system", "expected"), PLACES.values(), ids=PLACES)
def test_a_tag_routes_only_where_an_author_puts_it(system: object, expected: str | None) -> None:
    if expected == "refused":
        found = find_tag(system)
        assert found is not None
        assert found.content is None
    else:
        assert said(system) == expected


def test_texts_are_those_of_the_system_field() -> None:
    assert list(system_texts("a")) == ["a"]
    assert list(system_texts([block("a"), {"type": "text"}, 5, block("b")])) == ["a", "b"]
    assert list(system_texts(None)) == list(system_texts({"text": "a"})) == []


def test_a_tag_knows_its_place() -> None:
    assert find_tag(f" {TAG} x") == Tag(1, 1 + len(TAG), SAID)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{TAG}\nYou review code.", "You review code."),
        (f"{TAG}\r\nYou review code.", "You review code."),
        (f"{TAG}You review code.", "You review code."),
        (f"{TAG} You review code.", " You review code."),
        (f"\n\n{TAG}\nYou review code.", "\n\nYou review code."),
        (f"You review.\n{TAG}\nBe brief.", "You review.\nBe brief."),
        (f"You review.\n{TAG}", "You review.\n"),
        (TAG, ""),
        (f"{TAG}\n{OTHER}\nBe brief.", "Be brief."),
        (f"Not {TAG} but\n{OTHER}\nBe brief.", f"Not {TAG} but\nBe brief."),
        (f"```\n{TAG}\n```", f"```\n{TAG}\n```"),
        ("nothing", "nothing"),
    ],
)
def test_the_tags_that_route_are_taken_out_with_their_lines(text: str, left: str) -> None:
    assert strip_tag(text) == left
    assert strip_tag(left) == left


@pytest.mark.parametrize(
    ("model", "left"),
    [
        ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5"),
        ("gpt-oss-120b", "gpt-oss-120b"),
        ("a[1m]b", "a[1m]b"),
        ("a[]", "a[]"),
    ],
)
def test_a_context_suffix_is_taken_off(model: str, left: str) -> None:
    assert without_suffix(model) == left


# what a name leads to

ANTHROPIC = Provider("anthropic", "anthropic", "https://api.anthropic.com", passthrough=True, models=("claude-x",))
CEREBRAS = Provider("cerebras", "openai-chat", "http://c", api_key="k", models=("gpt-oss-120b", "shared"))
CODEX = Provider("codex", "openai-responses", "http://x", auth_file="/a", models=("gpt-5.1", "shared", "odd[1m]"))
ROUTER = Provider("router", "openai-chat", "http://r", api_key="k", models=("deepseek/deepseek-r1", "a,b"))
KEYLESS = Provider("keyless", "openai-chat", "http://l", models=("local",), key_hint="${LOCAL_KEY}")
BARE = Provider("bare", "openai-chat", "http://b")
TABLE = RoutingTable({p.name: p for p in (ANTHROPIC, CEREBRAS, CODEX, ROUTER, KEYLESS, BARE)})
DEFAULT = Route(ANTHROPIC, None, "default")

TAGGED: list[tuple[str, Provider, str]] = [
    ("cerebras,gpt-oss-120b", CEREBRAS, "gpt-oss-120b"),
    ("cerebras/gpt-oss-120b", CEREBRAS, "gpt-oss-120b"),
    ("  cerebras , gpt-oss-120b  ", CEREBRAS, "gpt-oss-120b"),
    ("cerebras,not-listed", CEREBRAS, "not-listed"),
    ("cerebras/not-listed", CEREBRAS, "not-listed"),
    ("router,deepseek/deepseek-r1", ROUTER, "deepseek/deepseek-r1"),
    ("router/deepseek/deepseek-r1", ROUTER, "deepseek/deepseek-r1"),
    ("deepseek/deepseek-r1", ROUTER, "deepseek/deepseek-r1"),
    ("router,a,b", ROUTER, "a,b"),
    ("router,vendor/model,x:free", ROUTER, "vendor/model,x:free"),
    ("cerebras,<b>&'\"", CEREBRAS, "<b>&'\""),
    ("cerebras,gpt-oss-120b[1m]", CEREBRAS, "gpt-oss-120b"),
    ("gpt-5.1", CODEX, "gpt-5.1"),
    ("gpt-5.1[1m]", CODEX, "gpt-5.1"),
    ("claude-x", ANTHROPIC, "claude-x"),
    ("anthropic,claude-haiku-4-5", ANTHROPIC, "claude-haiku-4-5"),
    ("anthropic/claude-haiku-4-5", ANTHROPIC, "claude-haiku-4-5"),
]


@pytest.mark.parametrize(("content", "provider", "model"), TAGGED)
def test_a_tag_leads_to_its_provider(content: str, provider: Provider, model: str) -> None:
    assert TABLE.resolve("claude-sonnet-4-5", Tag(0, 0, content)) == Route(provider, model, "tag")


MODELS: list[tuple[str | None, Route]] = [
    (None, DEFAULT),
    ("claude-sonnet-4-5", DEFAULT),
    ("claude-sonnet-4-5[1m]", DEFAULT),
    ("claude-x", DEFAULT),
    ("vendor/unknown", DEFAULT),
    ("cerebras/gpt-oss-120b", DEFAULT),
    ("gpt-oss-120b", Route(CEREBRAS, "gpt-oss-120b", "model-name")),
    ("gpt-5.1[1m]", Route(CODEX, "gpt-5.1", "model-name")),
    ("odd[1m]", Route(CODEX, "odd", "model-name")),
    ("deepseek/deepseek-r1", Route(ROUTER, "deepseek/deepseek-r1", "model-name")),
    ("cerebras,anything", Route(CEREBRAS, "anything", "model-pair")),
    ("router,deepseek/deepseek-r1[1m]", Route(ROUTER, "deepseek/deepseek-r1", "model-pair")),
    ("anthropic,claude-x", Route(ANTHROPIC, "claude-x", "model-pair")),
]


@pytest.mark.parametrize(("model", "route"), MODELS)
def test_a_model_leads_to_the_provider_that_it_names_or_that_lists_it(model: str | None, route: Route) -> None:
    assert TABLE.resolve(model) == route


def test_a_tag_wins_over_the_model() -> None:
    assert TABLE.resolve("cerebras,a", Tag(0, 0, "codex,b")) == Route(CODEX, "b", "tag")


CHOICES = ["Configured providers: ", "cerebras (gpt-oss-120b, shared)", "codex (", "; bare."]

REFUSED_TAGS: list[tuple[str | None, list[str]]] = [
    (None, ["not closed on its line", "<CCR-SUBAGENT-MODEL>provider,model</CCR-SUBAGENT-MODEL>", *CHOICES]),
    ("", ["tag in the agent's system prompt is empty", *CHOICES]),
    ("  ", ["is empty", *CHOICES]),
    ("nobody,model", ["Unknown provider 'nobody' in 'nobody,model'", *CHOICES]),
    ("nobody/model", ["Unknown provider 'nobody' in 'nobody/model'", *CHOICES]),
    ("Cerebras,model", ["Unknown provider 'Cerebras'", *CHOICES]),
    ("unlisted", ["'unlisted'", "neither 'provider,model' nor a model listed", *CHOICES]),
    ("cerebras", ["'cerebras'", "neither", *CHOICES]),
    (",model", ["',model' is not of the form 'provider,model'", *CHOICES]),
    ("cerebras,", ["'cerebras,' is not of the form", *CHOICES]),
    ("cerebras, [1m]", ["is not of the form", *CHOICES]),
    ("cerebras/", ["is not of the form", *CHOICES]),
    ("/", ["is not of the form", *CHOICES]),
    ("shared", ["'shared' is listed by several providers", "'cerebras,shared', 'codex,shared'"]),
    (
        "keyless,local",
        ["'keyless' has no key configured (${LOCAL_KEY} gives none)", "providers.keyless.apiKey", *CHOICES],
    ),
    ("bare,m", ["'bare' has no key configured. Set providers.bare.apiKey", *CHOICES]),
]


@pytest.mark.parametrize(("content", "words"), REFUSED_TAGS)
def test_a_tag_that_leads_nowhere_is_a_400_that_names_the_choices(content: str | None, words: list[str]) -> None:
    with pytest.raises(RequestError) as raised:
        TABLE.resolve("claude-sonnet-4-5", Tag(0, 0, content))
    assert (raised.value.status, raised.value.error_type) == (400, "invalid_request_error")
    for word in words:
        assert word in raised.value.message


@pytest.mark.parametrize("model", ["nobody,model", "cerebras,", ",", "shared", "shared[1m]", "local", "keyless,local"])
def test_a_model_that_leads_nowhere_is_a_400_too(model: str) -> None:
    with pytest.raises(RequestError):
        TABLE.resolve(model)


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("nobody,model", None),
        ("shared", None),
        ("local", None),
        ("claude-x", Tag(0, 0, None)),
        ("claude-x", Tag(0, 0, "nobody,model")),
        ("claude-x", Tag(0, 0, "keyless,local")),
    ],
)
def test_who_wants_it_has_such_requests_passed_through(model: str, tag: Tag | None) -> None:
    table = dataclasses.replace(TABLE, on_unknown="passthrough")
    assert table.resolve(model, tag) == DEFAULT
    assert table.resolve("gpt-oss-120b", Tag(0, 0, "codex,b")) == Route(CODEX, "b", "tag")


def test_the_default_may_be_another_provider() -> None:
    table = dataclasses.replace(TABLE, default="cerebras")
    assert table.resolve("claude-sonnet-4-5") == Route(CEREBRAS, None, "default")
    assert table.resolve("gpt-oss-120b") == Route(CEREBRAS, None, "default")


@pytest.mark.parametrize("on_unknown", ["refuse", "passthrough"])
def test_a_default_without_a_key_is_refused_like_any_other(on_unknown: str) -> None:
    keyless = Provider("anthropic", "anthropic", "http://a", key_hint="${KEY}")
    table = RoutingTable({"anthropic": keyless}, on_unknown="refuse" if on_unknown == "refuse" else "passthrough")
    with pytest.raises(RequestError, match=r"\$\{KEY\} gives none"):
        table.resolve("claude-x")


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "API-Key"])
def test_a_secret_among_the_headers_is_a_key_too(name: str) -> None:
    azure = Provider("azure", "openai-chat", "http://a", headers=((name, "k"),))
    assert RoutingTable({"anthropic": ANTHROPIC, "azure": azure}).resolve("azure,m").provider is azure
    titled = dataclasses.replace(azure, headers=(("X-Title", "t"),))
    with pytest.raises(RequestError, match="no key configured"):
        RoutingTable({"anthropic": ANTHROPIC, "azure": titled}).resolve("azure,m")


def test_of_a_long_list_the_first_models_are_shown() -> None:
    long = dataclasses.replace(CEREBRAS, models=tuple(f"m{number}" for number in range(20)))
    with pytest.raises(RequestError, match=r"cerebras \(m0, m1, .*m7, …\)\."):
        RoutingTable({"anthropic": ANTHROPIC, "cerebras": long}).resolve("nobody,m")


# rules

BIG = b'{"thinking": {"type": "adaptive"}, "tools": [{"name": "Bash"}, {"name": 7}, 8], "pad": "' + b"x" * 2048 + b'"}'


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({}, True),
        ({"model": "claude-*"}, True),
        ({"model": "claude-x"}, True),
        ({"model": "gpt-*"}, False),
        ({"agent_id": "*"}, True),
        ({"agent_id": "a1*"}, True),
        ({"agent_id": "b*"}, False),
        ({"thinking": True}, True),
        ({"thinking": False}, False),
        ({"tool": "Ba*"}, True),
        ({"tool": "Web*"}, False),
        ({"min_body_kb": 2, "max_body_kb": 3}, True),
        ({"min_body_kb": 3}, False),
        ({"max_body_kb": 1}, False),
        ({"model": "claude-*", "tool": "Web*"}, False),
    ],
)
def test_a_rule_is_fitted_in_all_that_it_says(rule: dict[str, Any], fits: bool) -> None:
    facts = Facts(agent_id="a1b2", body=BIG)
    assert facts.fit(RuleEntry(route="anthropic", **rule), "claude-x[1m]") is fits


@pytest.mark.parametrize("body", [b"{}", b"[]", b"not JSON", b'{"thinking": 1, "tools": 2}'])
def test_a_body_that_tells_nothing_fits_no_rule_about_it(body: bytes) -> None:
    assert not Facts(body=body).fit(RuleEntry(route="anthropic", thinking=True), "m")
    assert not Facts(body=body).fit(RuleEntry(route="anthropic", tool="*"), "m")
    assert not Facts(body=body).fit(RuleEntry(route="anthropic", agent_id="*"), "m")


def test_the_first_rule_counts_behind_tag_and_pair_and_before_a_model_s_name() -> None:
    rules = (
        RuleEntry(route="cerebras", model="never"),
        RuleEntry(route="cerebras, by-rule ", model="*"),
        RuleEntry(route="cerebras,too-late", model="*"),
    )
    table = RoutingTable(TABLE.providers, rules=rules)
    facts = Facts()
    by_rule = Route(TABLE.providers["cerebras"], "by-rule", "rule")
    assert table.resolve("claude-x", None, facts) == by_rule
    assert table.resolve("gpt-oss-120b", None, facts) == by_rule
    assert table.resolve("cerebras,m", None, facts).reason == "model-pair"
    assert table.resolve("claude-x", Tag(0, 0, "cerebras,m"), facts).reason == "tag"
    assert table.resolve("claude-x").reason == "default"


def test_a_rule_without_a_model_keeps_the_one_that_was_asked_for() -> None:
    for provider, model in (("anthropic", None), ("cerebras", "claude-x")):
        table = RoutingTable(TABLE.providers, rules=(RuleEntry(route=provider),))
        assert table.resolve("claude-x", None, Facts()) == Route(TABLE.providers[provider], model, "rule")


# why


@pytest.mark.parametrize(
    ("model", "tag", "reason", "because"),
    [
        ("claude-x", Tag(0, 0, "cerebras,m"), "tag", "The tag in the system prompt says cerebras,m."),
        ("cerebras,m", None, "model-pair", "The model 'cerebras,m' names its provider."),
        ("claude-haiku-4", None, "rule", "rules[1] of the configuration is the first that the request fits."),
        ("gpt-oss-120b", None, "model-name", "providers.cerebras.models lists 'gpt-oss-120b', and no other does."),
        ("claude-x", None, "default", "No tag, rule or listed model asks for another provider than anthropic."),
        ("nobody,m", None, "default", "onUnknown is 'passthrough', in place of this refusal: Unknown provider"),
    ],
)
def test_a_decision_can_be_explained(model: str, tag: Tag | None, reason: str, because: str) -> None:
    rules = (RuleEntry(route="cerebras,a", model="no"), RuleEntry(route="cerebras,b", model="claude-haiku-*"))
    table = dataclasses.replace(TABLE, rules=rules, on_unknown="passthrough")
    route, told = table.explain(model, tag, Facts())
    assert route == table.resolve(model, tag, Facts())
    assert (route.reason, told[: len(because)]) == (reason, because)


def test_what_is_refused_is_not_explained_otherwise() -> None:
    with pytest.raises(RequestError, match="Unknown provider"):
        TABLE.explain("nobody,m")
