"""The configuration is resolved, complete, and refused with the file, the key, what was found and what is accepted."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.config import Config, Cost, Provider, config_path, load_config, parse_config
from ccr_asgi.errors import ConfigError, RequestError
from ccr_asgi.quirks import PRESETS
from ccr_asgi.routing import RoutingTable

SECRET = "invented-secret"

ORIGINAL = """
{"port": 3456,
 "providers": {
   "anthropic": {"passthrough": true},
   "cerebras": {"baseUrl": "https://api.cerebras.ai/v1/chat/completions", "apiKey": "KEY",
                "models": ["qwen-3-235b-a22b-instruct-2507", "zai-glm-4.7", "gpt-oss-120b"]},
   "codex": {"baseUrl": "https://chatgpt.com/backend-api/codex/responses", "authFile": "~/.codex/auth.json",
             "models": ["gpt-5.1-codex-mini", "gpt-5.1-codex", "gpt-5.1-codex-max", "gpt-5.2-codex"]}},
 "usage": {"logFile": "~/.claude-code-router/usage.jsonl",
           "costs": {"qwen-3-235b-a22b-instruct-2507": {"input": 0.60, "output": 1.20},
                     "zai-glm-4.7": {"input": 2.25, "output": 2.75},
                     "gpt-oss-120b": {"input": 0.35, "output": 0.75}}}}
"""
"""The configuration file of the program that this one follows."""


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def provider(entry: dict[str, Any], name: str = "x", **environ: str) -> Provider:
    """A provider as it is resolved from what the file says of it."""
    return parse_config({"providers": {name: entry}}, environ=environ).providers[name]


def refusal(data: object, **environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_config(data, source=Path("/etc/ccr.json"), environ=environ)
    return str(raised.value)


CHAT = {"type": "openai-chat", "baseUrl": "http://h/v1/chat/completions"}


# where it is


def test_the_path_is_the_named_one_else_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_path() == config_path({"CCR_ASGI_CONFIG": ""}) == tmp_path / ".claude-code-router/config.json"
    assert config_path({"CCR_ASGI_CONFIG": "~/other.json"}) == tmp_path / "other.json"
    monkeypatch.setenv("CCR_ASGI_CONFIG", "/etc/ccr.json")
    assert config_path() == Path("/etc/ccr.json")


def test_without_a_file_everything_has_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config()
    assert (config.source, config.host, config.port) == (None, "127.0.0.1", 3456)
    assert [dataclasses.replace(found, quirks=PRESETS["openai"]) for found in config.providers.values()] == [
        Provider("anthropic", "anthropic", "https://api.anthropic.com", passthrough=True, quirks=PRESETS["openai"])
    ]
    timeouts = config.timeouts
    assert (timeouts.connect_s, timeouts.write_s, timeouts.idle_s, timeouts.drain_s) == (5, 30, 300, 30)
    assert config.limits.body_mb == 32
    assert config.usage.database == str(tmp_path / ".claude-code-router/usage.db")
    assert (config.usage.log_file, config.usage.costs) == (None, {})
    assert (config.allowed_hosts, config.proxy_keys, config.on_unknown) == ((), {}, "refuse")
    assert (config.network.proxy, config.network.ca_file, config.warnings) == (None, None, ())


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(ConfigError, match=f"{path}: there is no such file"):
        load_config(path)
    with pytest.raises(ConfigError, match=f"{path}: there is no such file"):
        load_config(environ={"CCR_ASGI_CONFIG": str(path)})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        (b"\xff", "cannot be read"),
        ("[" * 100_000, "not JSON"),
        ("[]", "the whole file"),
        ('{"port": "x"}', "port: Expected 'int'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_is_not_understood_is_refused_by_name(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert str(raised.value).startswith(f"{path}: {said}")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path, b'\xef\xbb\xbf{"port": 4000}')
    assert load_config(path).port == 4000
    assert load_config(environ={"CCR_ASGI_CONFIG": str(path)}).source == path


def test_the_processs_own_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCR_ASGI_CONFIG", str(written(tmp_path, '{"port": 1}')))
    monkeypatch.setenv("CCR_ASGI_PORT", "4001")
    assert load_config().port == 4001
    assert load_config(environ={"CCR_ASGI_CONFIG": str(tmp_path / "config.json")}).port == 1


# the files of others


def test_the_originals_file_works_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config(written(tmp_path, ORIGINAL))
    found = {name: (p.kind, p.passthrough, p.api_key, p.auth_file) for name, p in config.providers.items()}
    assert found == {
        "anthropic": ("anthropic", True, None, None),
        "cerebras": ("openai-chat", False, "KEY", None),
        "codex": ("openai-responses", False, None, str(tmp_path / ".codex/auth.json")),
    }
    assert config.providers["cerebras"].models == ("qwen-3-235b-a22b-instruct-2507", "zai-glm-4.7", "gpt-oss-120b")
    assert config.providers["codex"].base_url == "https://chatgpt.com/backend-api/codex/responses"
    assert config.usage.log_file == str(tmp_path / ".claude-code-router/usage.jsonl")
    assert config.usage.costs["zai-glm-4.7"] == Cost(input=2.25, output=2.75)
    assert config.warnings == ()


@pytest.mark.parametrize("data", [{"PORT": 3456}, {"Providers": [], "Router": {"default": "a,b"}}])
def test_another_routers_file_is_recognised(data: dict[str, Any]) -> None:
    message = refusal(data)
    assert message.startswith("/etc/ccr.json: this is the file of another router, claude-code-router")
    assert ", ".join(sorted(data)) in message
    assert "CCR_ASGI_CONFIG" in message


# every key


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    entry = {
        "type": "openai-responses",
        "baseUrl": "https://h/v1/responses?a=b",
        "apiKey": "k",
        "authFile": "/a.json",
        "tokenUrl": "https://auth.h/token",
        "models": ["m"],
        "headers": {"X-Title": "t"},
        "quirks": {"drop": ["top_p"]},
        "fallback": ["cerebras,gpt-oss-120b", "anthropic"],
        "pricing": "openai",
        "passthrough": False,
    }
    config = parse_config(
        {
            "port": 0,
            "host": "::1",
            "providers": {"x": entry, "cerebras": {}},
            "timeouts": {"connectS": 1, "writeS": 2, "idleS": 3.5, "drainS": 4},
            "limits": {"bodyMb": 0.5},
            "usage": {"database": "postgresql://h/d", "logFile": "/u.jsonl", "costs": {"m": {"input": 1, "output": 2}}},
            "allowedHosts": ["ccr.example"],
            "proxyKeys": {"alice": "k1"},
            "onUnknown": "passthrough",
            "network": {"proxy": "http://u:p@h:3128", "caFile": str(tmp_path / "ca.pem")},
        }
    )
    assert (config.port, config.host, config.on_unknown) == (0, "::1", "passthrough")
    x = config.providers["x"]
    assert dataclasses.asdict(x) | {"quirks": x.quirks.drop} == {
        "name": "x",
        "kind": "openai-responses",
        "base_url": "https://h/v1/responses?a=b",
        "api_key": "k",
        "passthrough": False,
        "auth_file": "/a.json",
        "token_url": "https://auth.h/token",
        "models": ("m",),
        "headers": (("X-Title", "t"),),
        "quirks": ("top_p",),
        "fallback": {"*": ("cerebras,gpt-oss-120b", "anthropic")},
        "pricing": "openai",
        "key_hint": None,
    }
    assert (config.timeouts.connect_s, config.timeouts.write_s) == (1, 2)
    assert (config.timeouts.idle_s, config.timeouts.drain_s, config.limits.body_mb) == (3.5, 4, 0.5)
    assert (config.usage.database, config.usage.log_file) == ("postgresql://h/d", "/u.jsonl")
    assert config.usage.costs == {"m": Cost(input=1, output=2)}
    assert (config.allowed_hosts, config.proxy_keys) == (("ccr.example",), {"alice": "k1"})
    assert (config.network.proxy, config.network.ca_file) == ("http://u:p@h:3128", str(tmp_path / "ca.pem"))


def test_a_fallback_may_be_given_by_model() -> None:
    by_model = {"gpt-oss-*": ["anthropic"], "zai-glm-4.7": ["cerebras,gpt-oss-120b"]}
    config = parse_config({"providers": {"cerebras": {"fallback": by_model}}})
    assert config.providers["cerebras"].fallback == {
        "gpt-oss-*": ("anthropic",),
        "zai-glm-4.7": ("cerebras,gpt-oss-120b",),
    }


@pytest.mark.parametrize("fallback", [["nobody,m"], {"*": ["anthropic", "nobody"]}, [""]])
def test_a_fallback_to_a_provider_that_is_not_there_is_refused(fallback: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"providers\.cerebras\.fallback: found .*accepted is .* of cerebras, anthropic"
    ):
        parse_config({"providers": {"cerebras": {"fallback": fallback}}})


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf")])
def test_rows_are_kept_for_some_time(days: float) -> None:
    with pytest.raises(ConfigError, match=r"usage\.retentionDays: found .*it must be more than 0"):
        parse_config({"usage": {"retentionDays": days}})


@pytest.mark.parametrize("usd", [-1, float("nan"), float("inf"), 1e9])
def test_a_price_is_a_price(usd: float) -> None:
    with pytest.raises(ConfigError, match=r"usage\.costs\.m\.cacheWrite1h: found .*accepted is 0 to 1000000"):
        parse_config({"usage": {"costs": {"m": {"input": 1, "output": 2, "cacheWrite1h": usd}}}})


def test_the_environment_is_laid_over_the_file() -> None:
    environ = {
        "CCR_ASGI_PORT": "4000",
        "CCR_ASGI_PROVIDERS__CEREBRAS__APIKEY": "${KEY}",
        "KEY": "k",
        "CCR_ASGI_DATABASE_URL": "postgresql://h/d",
        "CCR_ASGI_PROT": "1",
    }
    config = parse_config({"port": 1, "usage": {"database": "/x.db"}}, environ=environ)
    assert (config.port, config.providers["cerebras"].api_key) == (4000, "k")
    assert config.usage.database == "postgresql://h/d"
    assert config.warnings == ("the environment variable CCR_ASGI_PROT names no configuration key and is ignored",)


def test_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").write_text("")
    usage = {"database": "~/u.db", "logFile": "~/u.jsonl"}
    config = parse_config({"usage": usage, "network": {"caFile": "~/ca.pem"}})
    assert (config.usage.database, config.usage.log_file) == (str(tmp_path / "u.db"), str(tmp_path / "u.jsonl"))
    assert config.network.ca_file == str(tmp_path / "ca.pem")
    assert parse_config({}, environ={"CCR_ASGI_DATABASE_URL": "~/v.db"}).usage.database == str(tmp_path / "v.db")


# providers


@pytest.mark.parametrize(
    ("name", "kind", "base_url"),
    [
        ("anthropic", "anthropic", "https://api.anthropic.com"),
        ("cerebras", "openai-chat", "https://api.cerebras.ai/v1/chat/completions"),
        ("codex", "openai-responses", "https://chatgpt.com/backend-api/codex/responses"),
    ],
)
def test_three_names_imply_type_and_url(name: str, kind: str, base_url: str) -> None:
    found = provider({}, name)
    assert (found.kind, found.base_url) == (kind, base_url)
    assert provider({"baseUrl": "http://h/p"}, name).base_url == "http://h/p"


def test_another_type_takes_the_implied_url_away() -> None:
    assert "providers.codex.baseUrl: missing; give the URL of the openai-chat endpoint" in refusal(
        {"providers": {"codex": {"type": "openai-chat"}}}
    )


def test_anthropic_is_passthrough_unless_it_has_a_key_of_its_own() -> None:
    assert provider({}, "anthropic").passthrough
    assert not provider({"apiKey": "k"}, "anthropic").passthrough
    assert not provider({"passthrough": False}, "anthropic").passthrough
    assert not provider({"type": "anthropic", "baseUrl": "http://h"}).passthrough
    assert provider({"type": "anthropic", "baseUrl": "http://h", "passthrough": True}).passthrough


def test_codex_has_a_login_unless_it_has_a_key() -> None:
    assert provider({}, "codex").auth_file == str(Path("~/.codex/auth.json").expanduser())
    assert provider({"apiKey": "k"}, "codex").auth_file is None
    assert provider(CHAT).auth_file is None


def test_a_preset_is_chosen_and_changed() -> None:
    found = provider({"quirks": {"maxTokensCap": 5, "images": False}}, "cerebras").quirks
    assert (found.max_tokens_cap, found.strict) == (5, False)
    assert not found.takes_images("qwen-3.8-27b")


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"": CHAT}, ["providers.", "name cannot be empty"]),
    ({"a,b": CHAT}, ["providers.a,b", "comma or a slash"]),
    ({"a/b": CHAT}, ["providers.a/b", "comma or a slash"]),
    ({"x": {}}, ["providers.x.type: missing", "anthropic, openai-chat, openai-responses"]),
    ({"x": {"type": "openai-chat"}}, ["providers.x.baseUrl: missing", "openai-chat endpoint"]),
    ({"anthropic": CHAT}, ["providers.anthropic.type: found 'openai-chat'", "'anthropic'"]),
    ({"x": {**CHAT, "passthrough": True}}, ["providers.x.passthrough", "only with type 'anthropic'"]),
    ({"anthropic": {"passthrough": True, "apiKey": "k"}}, ["providers.anthropic.passthrough", "without an apiKey"]),
    ({"x": {**CHAT, "quirks": {"dorp": []}}}, ["providers.x.quirks.dorp: there is no such key", "drop, rename"]),
    ({"x": {**CHAT, "quirks": {"images": 1}}}, ["providers.x.quirks.images: found 1", "true, false"]),
    ({"x": {**CHAT, "headers": {"a b": "c"}}}, ["providers.x.headers.a b: not a header name"]),
    ({"x": {**CHAT, "headers": {"a": "b\r\nc: d"}}}, ["providers.x.headers.a: not a header name"]),
    ({"x": {**CHAT, "apiKey": "kéy"}}, ["providers.x.apiKey: ", "printable ASCII"]),
]


@pytest.mark.parametrize(("providers", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_provider_that_is_not_understood_is_refused(providers: dict[str, Any], said: list[str]) -> None:
    message = refusal({"providers": providers})
    assert message.startswith("/etc/ccr.json: ")
    for words in said:
        assert words in message


@pytest.mark.parametrize(
    "url",
    [
        *(
            "h/v1",
            "ftp://h",
            "http://",
            "http:///v1",
            "https://h/#part",
            "http://h:99999/",
            "http://h:0/",
            "http://[::1",
        ),
        *("http://h/a b", "http://h/\n", "http://hé/", "file:///etc/passwd"),
    ],
)
@pytest.mark.parametrize("key", ["baseUrl", "tokenUrl"])
def test_a_url_that_cannot_be_asked_is_refused(key: str, url: str) -> None:
    message = refusal({"providers": {"x": {**CHAT, key: url}}})
    assert f"providers.x.{key}: found" in message
    assert "https://" in message


def test_a_url_with_a_password_is_refused_since_nobody_would_send_it() -> None:
    message = refusal({"providers": {"x": {**CHAT, "baseUrl": f"https://u:{SECRET}@h/v1"}}})
    assert "providers.x.baseUrl" in message
    assert "apiKey or headers" in message
    assert SECRET not in message


# values


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_is_a_port(port: int) -> None:
    assert refusal({"port": port}) == f"/etc/ccr.json: port: found {port}; accepted is 0 to 65535."


@pytest.mark.parametrize(
    "key", ["timeouts.connectS", "timeouts.writeS", "timeouts.idleS", "timeouts.drainS", "limits.bodyMb"]
)
@pytest.mark.parametrize("value", ["0", "-1", "NaN", "Infinity"])
def test_limits_are_numbers_that_limit(key: str, value: str) -> None:
    group, name = key.split(".")
    message = refusal({group: {name: json.loads(value)}})
    assert message.startswith(f"/etc/ccr.json: {key}: found ")


@pytest.mark.parametrize("proxy", ["h:3128", "https://h:3128", "socks5://h:1", ""])
def test_a_proxy_is_reached_by_http(proxy: str) -> None:
    assert "network.proxy" in refusal({"network": {"proxy": proxy}})


def test_a_broken_proxy_url_is_told_without_its_password() -> None:
    message = refusal({"network": {"proxy": f"ftp://u:{SECRET}@h:1"}})
    assert "ftp://***@h:1" in message
    assert SECRET not in message


def test_authorities_must_be_there(tmp_path: Path) -> None:
    assert f"network.caFile: there is no file {tmp_path}/ca.pem" in refusal(
        {"network": {"caFile": f"{tmp_path}/ca.pem"}}
    )


@pytest.mark.parametrize("database", ["", ":memory:", "sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_rows_must_be_kept_somewhere(database: str) -> None:
    assert "/etc/ccr.json: usage.database: found" in refusal({"usage": {"database": database}})


def test_an_error_of_a_variable_is_told_as_one() -> None:
    assert refusal({}, CCR_ASGI_PORT="x").startswith("environment: port: Expected 'int'")


# secrets


def test_a_secret_is_written_or_in_a_variable_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f" {SECRET}\n")
    assert provider({**CHAT, "apiKey": SECRET}).api_key == SECRET
    assert provider({**CHAT, "apiKey": "${KEY}"}, KEY=SECRET).api_key == SECRET
    assert provider({**CHAT, "apiKey": "${A}-${B}"}, A="a", B="b").api_key == "a-b"
    assert provider({**CHAT, "apiKey": f"file:{tmp_path}/key"}).api_key == SECRET
    assert provider({**CHAT, "headers": {"x-key": "Key ${KEY}"}}, KEY=SECRET).headers == (("x-key", f"Key {SECRET}"),)
    keys = parse_config({"proxyKeys": {"a": "${KEY}", "b": f"file:{tmp_path}/key"}}, environ={"KEY": "k"}).proxy_keys
    assert keys == {"a": "k", "b": SECRET}


def test_a_secret_file_may_stand_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text(SECRET)
    assert provider({**CHAT, "apiKey": "file:~/key"}).api_key == SECRET


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff")
    for name in ("none", "key"):
        message = refusal({"providers": {"x": {**CHAT, "apiKey": f"file:{tmp_path}/{name}"}}})
        assert f"providers.x.apiKey: the file {tmp_path}/{name} cannot be read" in message


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"providers": {"x": {**CHAT, "headers": {"a": "${NONE}"}}}}, "providers.x.headers.a"),
        ({"proxyKeys": {"a": "${NONE}"}}, "proxyKeys.a"),
    ],
)
def test_a_variable_that_is_not_set_is_named(data: dict[str, Any], key: str) -> None:
    assert refusal(data) == f"/etc/ccr.json: {key}: the environment variable NONE is not set."


def test_a_key_cannot_be_required_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match="nobody would get in"):
        parse_config({"requireKey": True})
    assert parse_config({"requireKey": True, "proxyKeys": {"alice": "invented"}}).require_key


@pytest.mark.parametrize("value", ["", "${EMPTY}"])
def test_an_empty_proxy_key_is_refused_since_anyone_has_it(value: str) -> None:
    assert "proxyKeys.a: it is empty" in refusal({"proxyKeys": {"a": value}}, EMPTY="")


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}])
def test_an_unset_key_leaves_a_provider_that_is_refused_when_it_is_asked(environ: dict[str, str]) -> None:
    config = parse_config({"providers": {"cerebras": {"apiKey": "${KEY}", "models": ["m"]}}}, environ=environ)
    found = config.providers["cerebras"]
    assert (found.api_key, found.key_hint) == (None, "${KEY}")
    with pytest.raises(RequestError, match=r"'cerebras' has no key configured \(\$\{KEY\} gives none\)") as raised:
        RoutingTable(config.providers).resolve("m")
    assert raised.value.status == 400


def secretive(tmp_path: Path) -> Config:
    (tmp_path / "key").write_text(SECRET)
    return parse_config(
        {
            "providers": {
                "x": {**CHAT, "apiKey": SECRET, "headers": {"a": SECRET}, "quirks": {"headers": {"a": SECRET}}},
                "y": {**CHAT, "apiKey": f"file:{tmp_path}/key"},
            },
            "proxyKeys": {"a": SECRET},
            "usage": {"database": f"postgresql://u:{SECRET}@h/d"},
            "network": {"proxy": f"http://u:{SECRET}@h:1"},
        }
    )


def test_no_secret_is_shown(tmp_path: Path) -> None:
    config = secretive(tmp_path)
    assert config.providers["y"].api_key == SECRET
    for shown in (repr(config), str(config), repr(config.providers), repr(config.usage), repr(config.network)):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "data",
    [
        {"providers": {"x": {**CHAT, "apiKey": f"{SECRET}\n"}}},
        {"providers": {"x": {**CHAT, "headers": {"a": f"{SECRET}é"}}}},
        {"providers": {"x": {**CHAT, "quirks": {"headers": {"a": f"{SECRET}é"}}}}},
    ],
    ids=str,
)
def test_no_error_tells_a_secret(data: dict[str, Any]) -> None:
    assert SECRET not in refusal(data)


def test_a_configuration_cannot_be_changed() -> None:
    config = parse_config({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1  # type: ignore[misc]  # the mistake that is tested
    with pytest.raises(AttributeError):
        config.timeouts.idle_s = 1  # type: ignore[misc]  # the same


def test_headers_of_a_passthrough_provider_are_refused_since_nothing_is_added_there() -> None:
    with pytest.raises(ConfigError, match=r"providers\.anthropic\.headers: .*apiKey"):
        parse_config({"providers": {"anthropic": {"headers": {"x-team": "blue"}}}})
