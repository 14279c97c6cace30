"""docs/configuration.md: every key has its row, with its true default and an example that works; so has the README."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest

from ccr_asgi.config import parse_config
from ccr_asgi.config_file import IMPLIED, BudgetEntry, ConfigFile, Cost, ProviderEntry, RuleEntry
from ccr_asgi.quirks import Quirks, quirks_from_mapping

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text()
ENVIRON = dict.fromkeys(("CEREBRAS_API_KEY", "AZURE_KEY", "ALICE_KEY", "OPENROUTER_API_KEY"), "invented")

Row = tuple[str, str, str, str]


def rows() -> dict[str, Row]:
    """The rows of the page's tables of keys, by key."""
    cells = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in PAGE.splitlines()]
    return {row[0].strip("`"): row for row in cells if len(row) == 4 and row[0].startswith("`")}


def keys_of(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key below an object of the file, dotted as on the page, and its default."""
    for item in msgspec.structs.fields(kind):
        if kind is ProviderEntry and item.encode_name == "quirks":
            yield "quirks", ...
        elif item.type is not ProviderEntry and isinstance(item.type, type) and issubclass(item.type, msgspec.Struct):
            yield prefix + item.encode_name, ...
            yield from keys_of(item.type, f"{prefix}{item.encode_name}.")
        else:
            default = item.default_factory() if callable(item.default_factory) else item.default
            yield prefix + item.encode_name, default
            if get_origin(item.type) is tuple and (entry := get_args(item.type)[0]) in (RuleEntry, BudgetEntry):
                yield from keys_of(entry, f"{item.encode_name}[].")
            if get_origin(item.type) is dict and get_args(item.type)[1] is Cost:
                yield from keys_of(Cost, f"{prefix}{item.encode_name}.<model>.")


def quirk_keys() -> list[str]:
    """The keys that the `quirks` object accepts, as its own error names them."""
    with pytest.raises(ValueError, match="accepted: ") as raised:
        quirks_from_mapping(Quirks(), {"": None})
    return str(raised.value).partition("accepted: ")[2].rstrip(".").split(", ")


KEYS = {**dict(keys_of(ConfigFile)), **dict(keys_of(ProviderEntry)), **{f"quirks.{key}": ... for key in quirk_keys()}}


def test_every_key_has_a_row_and_every_row_is_a_key() -> None:
    assert sorted(rows()) == sorted(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_row_is_complete(key: str) -> None:
    _, default, meaning, example = rows()[key]
    assert default
    assert meaning.endswith(".")
    assert example.startswith("`")


@pytest.mark.parametrize("key", [key for key, default in KEYS.items() if default is not ...])
def test_a_default_is_the_true_one(key: str) -> None:
    told, default = rows()[key][1], KEYS[key]
    if default is msgspec.NODEFAULT:
        assert told == "required"
    elif told == "by name":
        assert key in ("type", "baseUrl", "passthrough")
    else:
        value = json.loads(told.strip("`"))
        assert value == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("key", [f"quirks.{key}" for key in quirk_keys()])
def test_a_quirks_default_is_that_of_a_provider_that_nothing_is_known_of(key: str) -> None:
    told = json.loads(rows()[key][1].removeprefix("built in, else ").strip("`"))
    attribute = re.sub("[A-Z]", lambda match: "_" + match[0].lower(), key.removeprefix("quirks."))
    default = getattr(Quirks(), attribute)
    assert told == (list(default) if isinstance(default, tuple) else default)


def with_example(key: str) -> dict[str, Any]:
    """A configuration that holds a row's example."""
    value: Any = json.loads(rows()[key][3].strip("`"))
    if key.startswith("usage.costs.<model>"):
        return {"usage": {"costs": {"m": {"input": 1, "output": 1, key.rpartition(".")[2]: value}}}}
    if key.startswith("rules[]."):
        return {"rules": [{"route": "anthropic", key.rpartition(".")[2]: value}]}
    if key.startswith("budgets[]."):
        budget = {"per": "day", "tokens": 1, "then": "fallback", "provider": "codex", key.rpartition(".")[2]: value}
        if "usd" in budget:
            del budget["tokens"]
        return {"budgets": [budget], "proxyKeys": {"alice": "k"}, "providers": {"codex": {}}}
    entry: dict[str, Any] | None = None
    if key.startswith("quirks."):
        entry = {"quirks": {key.removeprefix("quirks."): value}}
    elif key in dict(keys_of(ProviderEntry)):
        entry = {key: value}
    if entry is not None:
        return {"providers": {"x": {"type": "openai-chat", "baseUrl": "https://h/v1/chat/completions", **entry}}}
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


@pytest.mark.parametrize("key", KEYS)
def test_an_example_works(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    secret = tmp_path / ".config" / "ccr" / "alice.key"
    secret.parent.mkdir(parents=True)
    secret.write_text("invented")
    data = with_example(key)
    if key == "network.caFile":
        (tmp_path / "ca.pem").write_text("")
        data = {"network": {"caFile": "~/ca.pem"}}
    if key == "requireKey":
        data["proxyKeys"] = {"alice": "invented"}
    parse_config(data, environ=ENVIRON)


@pytest.mark.parametrize("page", ["docs/configuration.md", "README.md"])
def test_the_json_on_the_page_is_a_configuration(page: str) -> None:
    blocks = re.findall(r"^```json\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        config = parse_config(json.loads(block), environ=ENVIRON)
        assert len(config.providers) > 1


def test_the_variables_on_the_page_are_understood() -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    environ = dict(line.split("=", 1) for line in block.splitlines())
    config = parse_config({}, environ={name: value.strip("'").replace("…", "k") for name, value in environ.items()})
    assert config.warnings == ()
    assert (config.port, config.timeouts.idle_s, config.allowed_hosts) == (4000, 600, ("ccr.example",))
    assert config.providers["cerebras"].api_key == "k"


def test_the_names_that_imply_a_type_are_told() -> None:
    for name, (kind, url) in IMPLIED.items():
        assert f"| `{name}` | `{kind}` | `{url}` |" in PAGE


@pytest.mark.parametrize("words", ["CCR_ASGI_CONFIG", "CCR_ASGI_DATABASE_URL", "${NAME}", "file:PATH", "## Secrets"])
def test_what_else_a_reader_looks_for_is_there(words: str) -> None:
    assert words in PAGE
