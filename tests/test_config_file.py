"""The file's shape: what the environment lays over it, what is said of a wrong value, and what `repr` never shows."""

from typing import Any

import msgspec
import pytest

from ccr_asgi.config_file import ConfigFile, convert, with_environment, without_password
from ccr_asgi.errors import ConfigError

SECRET = "invented-secret"


def overlaid(data: dict[str, Any], **environ: str) -> dict[str, Any]:
    """`data` with variables over it, given without their prefix; nothing may be warned of."""
    warnings: list[str] = []
    merged = with_environment(data, {f"CCR_ASGI_{name}": value for name, value in environ.items()}, warnings)
    assert not warnings
    return merged


# the environment


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PORT", "4000", {"port": "4000"}),
        ("port", "4000", {"port": "4000"}),
        ("ONUNKNOWN", "passthrough", {"onUnknown": "passthrough"}),
        ("TIMEOUTS__IDLES", "10", {"timeouts": {"idleS": "10"}}),
        ("ALLOWEDHOSTS", '["a", "b"]', {"allowedHosts": ["a", "b"]}),
        ("USAGE__COSTS", '{"m": {"input": 1}}', {"usage": {"costs": {"m": {"input": 1}}}}),
        ("PROVIDERS__CEREBRAS__APIKEY", "k", {"providers": {"cerebras": {"apiKey": "k"}}}),
        ("PROVIDERS__Local__BASEURL", "http://h", {"providers": {"local": {"baseUrl": "http://h"}}}),
        ("PROXYKEYS__Alice", "k", {"proxyKeys": {"alice": "k"}}),
        ("PROVIDERS__CEREBRAS__APIKEY", "[not json", {"providers": {"cerebras": {"apiKey": "[not json"}}}),
    ],
)
def test_a_variable_is_laid_over_its_key(variable: str, value: str, expected: dict[str, Any]) -> None:
    assert overlaid({}, **{variable: value}) == expected


def test_a_name_that_stands_in_the_file_is_found_without_case() -> None:
    data = {"providers": {"MyHost": {"type": "openai-chat", "models": ["a"]}}}
    merged = overlaid(data, PROVIDERS__MYHOST__APIKEY="k", PROVIDERS__MYHOST__MODELS='["b"]')
    assert merged == {"providers": {"MyHost": {"type": "openai-chat", "models": ["b"], "apiKey": "k"}}}
    assert data == {"providers": {"MyHost": {"type": "openai-chat", "models": ["a"]}}}


def test_a_variable_goes_deeper_than_a_value_that_was_no_object() -> None:
    assert overlaid({"timeouts": 5}, TIMEOUTS__IDLES="3") == {"timeouts": {"idleS": "3"}}


def test_without_a_variable_the_data_is_itself() -> None:
    data = {"port": 1}
    assert overlaid(data, CONFIG="/x", DATABASE_URL="/y") is data
    assert with_environment(data, {"PORT": "2", "OTHER": "3"}, []) is data


def test_a_variable_that_names_no_key_is_warned_of_by_name_alone() -> None:
    warnings: list[str] = []
    data: dict[str, Any] = {}
    assert with_environment(data, {"CCR_ASGI_PROT": SECRET}, warnings) is data
    assert warnings == ["the environment variable CCR_ASGI_PROT names no configuration key and is ignored"]


@pytest.mark.parametrize("value", ["true", "1"])
def test_text_of_the_environment_is_read_as_what_the_key_wants(value: str) -> None:
    merged = overlaid({}, PORT="4000", TIMEOUTS__IDLES="1.5", PROVIDERS__X__PASSTHROUGH=value)
    file = convert(merged, "environment", strict=False)
    assert (file.port, file.timeouts.idle_s, file.providers["x"].passthrough) == (4000, 1.5, True)


# errors

ERRORS: list[tuple[Any, list[str]]] = [
    ([], ["the whole file", "object"]),
    ("text", ["the whole file", "object"]),
    ({"prot": 1}, ["prot", "no such key", "port, host, providers"]),
    ({"port": "1"}, ["port: Expected 'int'", '"1"']),
    ({"port": True}, ["port: Expected 'int'", "true"]),
    ({"host": 5}, ["host: Expected 'str'", "found 5"]),
    ({"onUnknown": "ask"}, ["onUnknown", "'ask'", "accepted: refuse, passthrough"]),
    ({"timeouts": {"idle": 3}}, ["timeouts.idle", "no such key", "connectS, writeS, idleS, drainS"]),
    ({"timeouts": {"idleS": None}}, ["timeouts.idleS", "float", "null"]),
    ({"limits": {"bodyMb": "32"}}, ["limits.bodyMb", "float", '"32"']),
    ({"allowedHosts": "a"}, ["allowedHosts", "array", '"a"']),
    ({"network": {"proxy": 1}}, ["network.proxy", "found 1"]),
    ({"usage": {"logfile": "x"}}, ["usage.logfile", "no such key", "database, logFile, costs"]),
    ({"usage": {"costs": {"m": {"input": 1}}}}, ["usage.costs.m", "'output'"]),
    ({"usage": {"costs": {"m": {"input": "x", "output": 1}}}}, ["usage.costs.m.input", "float", '"x"']),
    ({"providers": {"x": {"type": "openai"}}}, ["providers.x.type", '"openai"', "openai-chat, openai-responses"]),
    ({"providers": {"x": {"url": "http://h"}}}, ["providers.x.url", "no such key", "baseUrl"]),
    ({"providers": {"x": {"models": "m"}}}, ["providers.x.models", "array"]),
    ({"providers": {"x": {"models": [1]}}}, ["providers.x.models[0]", "str", "(found 1)"]),
]


@pytest.mark.parametrize(("data", "said"), ERRORS, ids=lambda value: str(value)[:40])
def test_an_error_names_the_file_the_key_what_was_found_and_what_is_accepted(data: Any, said: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        convert(data, "/etc/ccr.json", strict=True)
    message = str(raised.value)
    assert message.startswith("/etc/ccr.json: ")
    for words in said:
        assert words in message


@pytest.mark.parametrize(
    "data",
    [
        {"providers": {"cerebras": SECRET}},
        {"providers": [SECRET]},
        {"providers": {"cerebras": {"apiKey": [SECRET]}}},
        {"providers": {"cerebras": {"headers": {"a": [SECRET]}}}},
        {"providers": {"cerebras": {"headers": SECRET}}},
        {"providers": {"cerebras": {"quirks": SECRET}}},
        {"proxyKeys": SECRET},
        {"proxyKeys": {"a": [SECRET]}},
        SECRET,
    ],
    ids=str,
)
def test_no_error_shows_a_secret(data: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        convert(data, "x", strict=True)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(ConfigError) as raised:
        convert({"port": "9" * 10_000}, "x", strict=True)
    assert len(str(raised.value)) < 200


# repr


def test_no_repr_shows_a_secret() -> None:
    data = {
        "providers": {
            "x": {"apiKey": SECRET, "headers": {"a": SECRET}, "quirks": {"headers": {"a": SECRET}}, "models": ["m"]}
        },
        "proxyKeys": {"a": SECRET},
        "usage": {"database": f"postgresql://u:{SECRET}@h/d"},
        "network": {"proxy": f"http://u:{SECRET}@h:1"},
    }
    shown = repr(convert(data, "x", strict=True))
    assert SECRET not in shown
    for words in ("port=3456", "models=('m',)", "postgresql://***@h/d", "http://***@h:1"):
        assert words in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+asyncpg://u:p@h:5432/d", "postgresql+asyncpg://***@h:5432/d"),
        ("postgresql://u:p@ss@h/d", "postgresql://***@h/d"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("/home/me@work/usage.db", "/home/me@work/usage.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_keys_are_camel_case() -> None:
    assert [item.encode_name for item in msgspec.structs.fields(ConfigFile)] == [
        *("port", "host", "providers", "timeouts", "limits", "usage"),
        *("allowedHosts", "proxyKeys", "requireKey", "onUnknown", "rules", "budgets", "network", "metrics", "tracing"),
    ]
